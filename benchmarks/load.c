/*
 * The client of all measurements: one thread, one epoll, no copying of bulk.
 *
 *   load keep PORT CONNECTIONS SECONDS REQUEST         answers end in "hello\n"
 *   load close PORT CONNECTIONS SECONDS REQUEST        answers end with FIN
 *   load upload PORT 1 SECONDS REQUEST BYTES           sent after the answer
 *   load idle PORT COUNT FIRST REQUEST
 *
 * The first three do whole exchanges for so many seconds, and print the
 * seconds that it took, exchanges, bytes (received, or uploaded), and the CPU
 * seconds of the client itself.
 *
 * The last one opens so many connections, from source addresses 127.0.FIRST.x,
 * has one request answered on each, and prints "ready".  At a line of input it
 * prints how many of them have ended so far; at the end, theirs or that of the
 * input, how many saw FIN, how many RST, and when (CLOCK_MONOTONIC) the last did.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE (1 << 20)
#define PER_ADDRESS 5000 /* of some 28000 ports; the last round's may linger */
#define LIMIT 280        /* seconds, for everything */

static const char end[] = "hello\n";
static char buffer[SIZE], chunk[SIZE];
static int port, poller;
static const char *request;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void fail(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, errno ? strerror(errno) : "closed");
	exit(1);
}

static void ask(int fd)
{
	if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		fail("send");
}

/* Connect, and send the request; from 127.0.first.last, unless they are 0. */
static int dial(int first, int last)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in from = {.sin_family = AF_INET};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		fail("socket");
	if (last) {
		from.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + (first << 8) + last);
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
		if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
			fail("bind");
	}
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		fail("connect");
	ask(fd);
	return fd;
}

static void watch(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
		fail("epoll_ctl");
}

static int answered(const char *data, ssize_t size)
{
	ssize_t n = sizeof end - 1;

	return size >= n && !memcmp(data + size - n, end, n);
}

static void report(double start, long done, long bytes)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	printf("%.6f %ld %ld %.6f\n", now() - start, done, bytes,
	       usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
		       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6);
}

static void exchange(int keep, int open, double seconds)
{
	struct epoll_event events[64];
	double start = now(), stop = start + seconds;
	long done = 0, bytes = 0;

	for (int i = 0; i < open; i++)
		watch(dial(0, 0));
	while (open) {
		int found = epoll_wait(poller, events, 64, -1);

		for (int i = 0; i < found; i++) {
			int fd = events[i].data.fd;
			ssize_t n = recv(fd, buffer, SIZE, keep ? 0 : MSG_TRUNC);

			if (n < 0 || (keep && !n))
				fail("receive");
			bytes += n;
			if (keep ? !answered(buffer, n) : n > 0)
				continue;
			done++;
			if (keep && now() < stop) {
				ask(fd);
				continue;
			}
			close(fd);
			if (now() < stop)
				watch(dial(0, 0));
			else
				open--;
		}
	}
	report(start, done, bytes);
}

static void upload(double seconds, long size)
{
	double start = now(), stop = start + seconds;
	long done = 0;
	ssize_t n;

	do {
		int fd = dial(0, 0);

		if (recv(fd, buffer, SIZE, 0) <= 0)
			fail("answer");
		for (long left = size; left; left -= n) {
			n = send(fd, chunk, left < SIZE ? left : SIZE, MSG_NOSIGNAL);
			if (n < 0)
				fail("upload");
		}
		shutdown(fd, SHUT_WR);
		while ((n = recv(fd, buffer, SIZE, 0)) > 0)
			;
		if (n < 0)
			fail("end");
		close(fd);
		done++;
	} while (now() < stop);
	report(start, done, done * size);
}

static void idle(int count, int first)
{
	struct epoll_event events[256];
	long fin = 0, rst = 0;
	double last = 0;
	ssize_t n;

	for (int i = 0; i < count; i++) {
		int fd = dial(first, 1 + i / PER_ADDRESS);

		do {
			n = recv(fd, buffer, SIZE, 0);
			if (n <= 0)
				fail("answer");
		} while (!answered(buffer, n));
		watch(fd);
	}
	watch(STDIN_FILENO);
	puts("ready");
	while (fin + rst < count) {
		int found = epoll_wait(poller, events, 256, -1);

		for (int i = 0; i < found; i++) {
			int fd = events[i].data.fd;

			if (fd == STDIN_FILENO) {
				if (read(fd, buffer, SIZE) <= 0)
					goto over;
				printf("%ld\n", fin + rst);
				continue;
			}
			n = recv(fd, buffer, SIZE, 0);
			if (n > 0)
				continue;
			*(n ? &rst : &fin) += 1;
			close(fd);
			last = now();
		}
	}
over:
	printf("%ld %ld %.6f\n", fin, rst, last);
}

int main(int argc, char **argv)
{
	char mode;

	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(LIMIT);
	poller = epoll_create1(0);
	if (argc < 6 || poller < 0)
		return 2;
	mode = argv[1][0];
	port = atoi(argv[2]);
	request = argv[5];
	if (mode == 'i')
		idle(atoi(argv[3]), atoi(argv[4]));
	else if (mode == 'u')
		upload(atof(argv[4]), argc > 6 ? atol(argv[6]) : 0);
	else
		exchange(mode == 'k', atoi(argv[3]), atof(argv[4]));
	return 0;
}
