/* Runs a program for which system calls fail: deny NAME=ERRNO ... -- PROGRAM ARG ...
 *
 * Unlike a library that is loaded before others, this holds for calls that are made without the C library too.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
	const char *name;
	long number;
} calls[] = { { "fsync", SYS_fsync }, { "renameat2", SYS_renameat2 }, { "linkat", SYS_linkat } };

int main(int argc, char **argv)
{
	struct sock_filter filter[64];
	struct sock_fprog program = { .filter = filter };
	size_t i;

	filter[program.len++] =
		(struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (argv++; *argv && strcmp(*argv, "--"); argv++) {
		char *value = strchr(*argv, '=');

		for (i = 0; value && i < sizeof(calls) / sizeof(*calls); i++)
			if (!strncmp(calls[i].name, *argv, value - *argv) && program.len < 60) {
				filter[program.len++] =
					(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0, 1);
				filter[program.len++] =
					(struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | atoi(value + 1));
			}
	}
	filter[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	if (argc < 3 || !*argv || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("deny");
		return 99;
	}
	execvp(argv[1], argv + 1);
	return 98;
}
