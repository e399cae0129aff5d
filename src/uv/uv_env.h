/* uv_env.h: the real world: struct hf_env on libuv, POSIX files and worker threads. Only main, the command line
 * tools and tests include this; everything else sees struct hf_env (base/env.h).
 *
 * One env is one event loop. All functions are called on the loop thread (the one that calls hf_uv_env_run),
 * except hf_uv_call. */
#ifndef HF_UV_UV_ENV_H
#define HF_UV_UV_ENV_H

#include "base/env.h"

/* Creates the loop, ready for use (timers, streams, ... may be started before it runs). Ignores SIGPIPE in the
 * whole process. HF_E_LIMIT when out of descriptors, HF_E_SYS. */
HF_MUST_CHECK int hf_uv_env_open(struct hf_env **out);

/* Runs callbacks until hf_uv_env_stop. May be called again afterwards. */
void hf_uv_env_run(struct hf_env *env);

/* Makes hf_uv_env_run return after the current loop turn. */
void hf_uv_env_stop(struct hf_env *env);

/* Frees everything. What is still there is closed first, in this order: executors (their jobs run and their done
 * callbacks come), listeners, streams (on_close comes, HF_E_CANCELED). Timers, tasks and pending hf_uv_call
 * functions are dropped. No other thread may use hf_uv_call any more. */
void hf_uv_env_close(struct hf_env *env);

/* Calls cb on the loop thread whenever the process gets the signal, until the env is closed. */
HF_MUST_CHECK int hf_uv_signal(struct hf_env *env, int signum, void (*cb)(void *data, int signum), void *data);

/* Any thread: runs fn(arg) once on the loop thread, in the order of the calls. Wakes the loop if it sleeps. */
void hf_uv_call(struct hf_env *env, void (*fn)(void *arg), void *arg);

/* The port a listener got (for addresses with port 0). */
uint16_t hf_uv_listener_port(const struct hf_listener *l);

/* Fills in the table of file operations alone, for tools without a loop. Holds no state, needs no closing. */
void hf_uv_fs_init(struct hf_fs *fs);

#endif
