/* err.c: texts of the error codes and the translation of errno. */
#include "base/err.h"

#include <errno.h>

const char *hf_strerror(int err)
{
    switch (err) {
    case HF_OK:
        return "ok";
#define X(name, value, text)                                                                                           \
    case HF_E_##name:                                                                                                  \
        return text;
        HF_ERR_MAP(X)
#undef X
    }
    return "unknown error";
}

int hf_err_from_errno(int sys_errno)
{
    switch (sys_errno) {
    case 0:
        return HF_OK;
    case ENOMEM:
    case ENOBUFS:
        return HF_E_NOMEM;
    case EIO:
        return HF_E_IO;
    case ENOSPC:
    case EDQUOT:
        return HF_E_NOSPC;
    case EINVAL:
    case ENAMETOOLONG:
        return HF_E_INVALID;
    case ENOENT:
        return HF_E_NOENT;
    case EEXIST:
        return HF_E_EXISTS;
    case EAGAIN:
        return HF_E_AGAIN;
    case EBUSY:
        return HF_E_BUSY;
    case EMFILE:
    case ENFILE:
    case EFBIG:
        return HF_E_LIMIT;
    case EBADF:
    case EPIPE:
        return HF_E_CLOSED;
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
        return HF_E_CONN;
    case ETIMEDOUT:
        return HF_E_TIMEOUT;
    case ECANCELED:
        return HF_E_CANCELED;
    case EADDRINUSE:
        return HF_E_ADDRINUSE;
    case EACCES:
    case EPERM:
    case EROFS:
        return HF_E_PERM;
    }
    return HF_E_SYS;
}
