/* journal.c: see the seam header of this folder. */
typedef int hf_journal_placeholder;
