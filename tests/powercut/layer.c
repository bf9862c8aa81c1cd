/* A layer below a process, by LD_PRELOAD: every call that changes a file of one folder is written into a log, in order.
 *
 * It changes nothing itself. What a power cut would have left is worked out later from the log, in disk.py, for as many
 * cuts as one likes. POWERCUT_FOLDER is an absolute path without links; POWERCUT_LOG lies elsewhere.
 *
 * A record is one line, "KIND NUMBER BYTES NAME", and so many bytes after it:
 *   C created   T truncated to NUMBER   W written at NUMBER   S synced   D the folder synced   U unlinked
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES_MAX 1024
#define NAME_MAX_BYTES 128
#define REAL(name) ((__typeof__(&name))real(#name))

static char names[FILES_MAX][NAME_MAX_BYTES]; /* of what is open in the folder; "." is the folder itself */

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void give_up(const char *why) {
    fprintf(stderr, "powercut: %s\n", why); /* a log with a gap would prove nothing */
    abort();
}

/* The part of a path that is below the folder; "." for the folder; NULL for anything else. */
static const char *inside(const char *path) {
    const char *folder = getenv("POWERCUT_FOLDER");
    size_t length = folder ? strlen(folder) : 0;
    if (!length || strncmp(path, folder, length)) return NULL;
    if (!path[length]) return ".";
    return path[length] == '/' ? path + length + 1 : NULL;
}

static void record(char kind, long long number, const char *name, const void *data, size_t bytes) {
    static int log = -1;
    char line[NAME_MAX_BYTES + 64];
    if (log < 0) log = REAL(open)(getenv("POWERCUT_LOG"), O_WRONLY | O_APPEND | O_CLOEXEC);
    int length = snprintf(line, sizeof line, "%c %lld %zu %s\n", kind, number, bytes, name);
    struct iovec parts[2] = {{line, (size_t)length}, {(void *)data, bytes}};
    if (writev(log, parts, 2) != (ssize_t)(length + bytes)) give_up("the log cannot be written");
}

static const char *name_of(int fd) { return fd >= 0 && fd < FILES_MAX && names[fd][0] ? names[fd] : NULL; }

static int opened(int fd, int existed, int flags) {
    char link[32], path[4096];
    if (fd < 0) return fd;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return fd;
    path[length] = 0;
    const char *name = inside(path);
    if (!name) return fd;
    if (fd >= FILES_MAX || strlen(name) >= NAME_MAX_BYTES) give_up("too many files, or too long a name");
    strcpy(names[fd], name);
    if (!existed) record('C', 0, name, NULL, 0);
    if (flags & O_TRUNC) record('T', 0, name, NULL, 0);
    return fd;
}

#define OPEN(function)                                                     \
    int function(const char *path, int flags, ...) {                       \
        va_list more;                                                      \
        va_start(more, flags);                                             \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;  \
        va_end(more);                                                      \
        int existed = !(flags & O_CREAT) || access(path, F_OK) == 0;       \
        return opened(REAL(function)(path, flags, mode), existed, flags);  \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(function)                                                              \
    int function(int folder, const char *path, int flags, ...) {                      \
        va_list more;                                                                 \
        va_start(more, flags);                                                        \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;             \
        va_end(more);                                                                 \
        int existed = !(flags & O_CREAT) || faccessat(folder, path, F_OK, 0) == 0;    \
        return opened(REAL(function)(folder, path, flags, mode), existed, flags);     \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    if (name_of(fd)) names[fd][0] = 0;
    return REAL(close)(fd);
}

static ssize_t written(int fd, long long offset, const void *data, ssize_t bytes) {
    if (bytes > 0 && name_of(fd)) record('W', offset, name_of(fd), data, (size_t)bytes);
    return bytes;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) {
    return written(fd, offset, data, REAL(pwrite)(fd, data, bytes, offset));
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t offset) {
    return written(fd, offset, data, REAL(pwrite64)(fd, data, bytes, offset));
}

ssize_t write(int fd, const void *data, size_t bytes) {
    off_t offset = name_of(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
    return written(fd, offset, data, REAL(write)(fd, data, bytes));
}

static int noted(int result, int fd, char kind, long long number) {
    if (result == 0 && name_of(fd)) record(kind == 'S' && names[fd][0] == '.' ? 'D' : kind, number, names[fd], NULL, 0);
    return result;
}

int ftruncate(int fd, off_t size) { return noted(REAL(ftruncate)(fd, size), fd, 'T', size); }
int ftruncate64(int fd, off64_t size) { return noted(REAL(ftruncate64)(fd, size), fd, 'T', size); }
int fsync(int fd) { return noted(REAL(fsync)(fd), fd, 'S', 0); }
int fdatasync(int fd) { return noted(REAL(fdatasync)(fd), fd, 'S', 0); }

int unlink(const char *path) {
    int result = REAL(unlink)(path);
    if (result == 0 && inside(path)) record('U', 0, inside(path), NULL, 0);
    return result;
}
