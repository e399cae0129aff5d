/* doc.h: reads the argument notation of the command rows. Private to the folder.
 *
 * The notation, words separated by spaces:
 *   name:type       an argument; type is one of string integer double key pattern unix-time
 *   TOKEN           a literal word; followed by an argument or a (group) it belongs to that
 *   [ ... ]         optional
 *   ( ... )         a group
 *   a | b           one of several, inside brackets or a group
 *   x...            (behind an argument or a group) may be repeated */
#ifndef HF_COMMAND_DOC_H
#define HF_COMMAND_DOC_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum hf_doc_kind { HF_DOC_ARGUMENT, HF_DOC_TOKEN, HF_DOC_ONEOF, HF_DOC_BLOCK };

#define HF_DOC_NODES_MAX 64

struct hf_doc_node {
    enum hf_doc_kind kind;
    struct hf_slice name, type; /* ARGUMENT */
    struct hf_slice token;      /* the word in front, or the TOKEN itself; may be empty */
    bool is_optional, is_multiple;
    uint8_t first_child, next; /* node numbers; 0 = none */
};

struct hf_doc {
    struct hf_doc_node node[HF_DOC_NODES_MAX]; /* node[0] is a BLOCK whose children are the arguments */
    uint8_t n;
};

/* False when the text does not follow the notation. The slices point into the text. */
bool hf_doc_parse(struct hf_doc *doc, const char *text);
/* The text without types, as people read it: "key [EX seconds]". */
void hf_doc_usage(struct hf_buf *out, const char *text);

#endif
