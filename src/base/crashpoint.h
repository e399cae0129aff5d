/* crashpoint.h: named places where a test can have the process die, in the middle of steps that must survive it. In a
 * build with the option crash_points, HOLDFAST_CRASH_AT=NAME in the environment kills the process (as kill -9 does: no
 * destructor, no flush) the first time that it reaches hf_crash_point("NAME"); NAME:N the N-th time. Other builds have
 * nothing of it. Any thread. */
#ifndef HF_BASE_CRASHPOINT_H
#define HF_BASE_CRASHPOINT_H

/* What the macro calls; returns unless this is the point where the process is to die. */
void hf_crash_point_reached(const char *name);

#ifdef HF_CRASH_POINTS
#define hf_crash_point(name) hf_crash_point_reached(name)
#else
#define hf_crash_point(name) ((void)0)
#endif

#endif
