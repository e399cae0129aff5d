/* backup_file.h: the file that a backup is. Format version 1, all of it readable by the program zstd alone:
 *
 *   skippable frame 0x184D2A50   u32 magic, u32 n, n bytes: JSON, one object, what the backup holds (below)
 *   one zstd frame               the SQLite database, byte for byte; content size and content checksum are on
 *   skippable frame 0x184D2A51   u32 magic, u32 n, n bytes: JSON, one object: "database_bytes", "database_xxh3_128",
 *                                "file_bytes", "file_xxh3_128" (hex, canonical XXH3-128; "file" is all before this
 * frame)
 *
 * Nothing follows. `zstd -dc FILE` therefore gives the database. The object in front: "holdfast_backup" (the format
 * version, 1), "index", "term", "level", "bytes", "digest" and "history" (hex; history may be missing), "cluster_id",
 * "node_id", "created_at" (UTC), "holdfast_version". */
#ifndef HF_TOOLS_BACKUP_FILE_H
#define HF_TOOLS_BACKUP_FILE_H

#include "tools/tools.h"

struct hf_backup_info {
    uint64_t index, term, level, bytes, node_id;
    char digest[33], history[33]; /* hex; history may be "" */
    char cluster_id[40], created_at[24], version[32];
};

/* ---- writing ------------------------------------------------------------------------------------------- */

struct hf_backup_writer;

/* Starts PATH.part (an abandoned one is overwritten; one that another process writes is an error). 0, or -1 with why.
 */
int hf_backup_create(const char *path, const struct hf_backup_info *info, int level, struct hf_backup_writer **out,
                     char *why, size_t why_size);
int hf_backup_write(struct hf_backup_writer *w, const void *bytes, size_t n, char *why, size_t why_size);
/* All bytes are there: ends the file, syncs it, gives it its name and syncs the directory. replace: an existing file of
 * that name goes away; else it is an error. The writer is gone in any case; after an error so is PATH.part. */
int hf_backup_finish(struct hf_backup_writer *w, bool replace, uint64_t *file_bytes, char *why, size_t why_size);
void hf_backup_abandon(struct hf_backup_writer *w);

/* ---- reading ------------------------------------------------------------------------------------------- */

/* The object in front only. */
int hf_backup_look(const char *path, struct hf_backup_info *info, char *why, size_t why_size);
/* Reads it all, checks every sum in it, and writes the database to `to` (created anew, synced; removed after an
 * error). */
int hf_backup_unpack(const char *path, const char *to, struct hf_backup_info *info, bool is_quiet, char *why,
                     size_t why_size);
/* The unpacked database against what the backup says of it: SQLite's own check, and the digest of all rows. 0 or an
 * hf_err with why (backup.c). */
int hf_backup_check(const char *path, const char *database, const struct hf_backup_info *info, bool is_quiet, char *why,
                    size_t why_size);

#endif
