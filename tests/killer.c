/* What happens to a writer at one of its writes to files, which are counted from 1. Loaded into vdump by LD_PRELOAD.
 *
 * KILL_AT: it is killed, and the write is not made. SHRINK_AT: SHRINK_FILE is cut to SHRINK_TO bytes, and the write is made.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t pwrite64(int fd, const void *buf, size_t len, off_t at)
{
	static int writes;
	const char *last = getenv("KILL_AT");
	const char *shrinks = getenv("SHRINK_AT");
	int count = __sync_add_and_fetch(&writes, 1);

	if (last && count >= atoi(last))
		kill(getpid(), SIGKILL);
	if (shrinks && count == atoi(shrinks) && truncate(getenv("SHRINK_FILE"), atoll(getenv("SHRINK_TO"))))
		abort();
	return syscall(SYS_pwrite64, fd, buf, len, at);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
	return pwrite64(fd, buf, len, at);
}
