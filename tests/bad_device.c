/* A device that fails: reads of one file, or the writing back of any. Loaded into vdump by LD_PRELOAD.
 *
 * BAD_FILE, BAD_FROM, BAD_TO: reads of this file that touch these bytes fail. BAD_SYNC: fsync fails; "folders": of those only.
 * BAD_PAGES: writing a part of a page of a file that is open for reading too fails, as on NFSv4.2 with nfs-ganesha 4.3.
 * BAD_THREADS: no more than so many threads are started.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_bad_file(int fd)
{
	struct stat here, bad;
	const char *name = getenv("BAD_FILE");

	return name && !fstat(fd, &here) && !stat(name, &bad) && here.st_dev == bad.st_dev && here.st_ino == bad.st_ino;
}

static off_t number(const char *name)
{
	const char *text = getenv(name);

	return text ? strtoll(text, NULL, 10) : 0;
}

ssize_t pread64(int fd, void *buf, size_t len, off_t at)
{
	if (at < number("BAD_TO") && at + (off_t)len > number("BAD_FROM") && is_bad_file(fd)) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pread64, fd, buf, len, at);
}

ssize_t pread(int fd, void *buf, size_t len, off_t at)
{
	return pread64(fd, buf, len, at);
}

int fsync(int fd)
{
	const char *which = getenv("BAD_SYNC");
	struct stat here;

	if (which && !fstat(fd, &here) && (strcmp(which, "folders") || S_ISDIR(here.st_mode))) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_fsync, fd);
}

static int is_bad_write(int fd, size_t len, off_t at)
{
	struct stat here;

	return getenv("BAD_PAGES") && (at % 4096 || len % 4096) && !fstat(fd, &here) && S_ISREG(here.st_mode) &&
	       (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off_t at)
{
	if (is_bad_write(fd, len, at)) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, buf, len, at);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
	return pwrite64(fd, buf, len, at);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	static int started;
	int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");

	if (getenv("BAD_THREADS") && __atomic_add_fetch(&started, 1, __ATOMIC_RELAXED) > number("BAD_THREADS"))
		return EAGAIN;
	return create(thread, attr, start, arg);
}
