/* A device that fails: reads of one file, or the writing back of any. Loaded into vdump by LD_PRELOAD.
 *
 * BAD_FILE, BAD_FROM, BAD_TO: reads of this file that touch these bytes fail. BAD_SYNC: fsync fails.
 */
#include <errno.h>
#include <stdlib.h>
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
	if (getenv("BAD_SYNC")) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_fsync, fd);
}
