/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The main thread polls the process's stream, the signals, the terminal's
 * signals and the keys that leave it; stdin goes on a thread of its own (stdin-pump.c). A signal or
 * a new size is one call on a connection of its own.
 *
 * Without a terminal every signal that we get is the process's. With one, keys are characters that
 * go there, so that a SIGINT that still comes is meant for the process, while SIGTERM and SIGHUP
 * are meant for us: we end, and if the process is ours its terminal is hung up, as when a
 * connection of ssh is gone.
 */
#include "cli/session.h"

#include "base/fd.h"
#include "cli/process-stream.h"
#include "cli/stdin-pump.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { CALL_TIMEOUT_MS = 10000 };

struct session {
	const struct session_spec *spec;
	struct process_stream stream;
	struct stdin_pump pump;
	struct terminal terminal;
	struct terminal_size size; /* that the process's terminal has */
	json_int_t pid;            /* 0 until the process started */
	bool pty;                  /* it has a terminal, which ours stands for */
	int pending_signal;        /* came before the pid did */
	int interrupts;            /* how many SIGINT came */
	int code;                  /* exit code; -1 = not known yet */
	bool detached;
	bool over; /* nothing more is waited for */
	struct op op;
};

/* A call about the process. One that just ended needs it no more; anything else shows in the
 * stream. Takes over the reference to @request. */
static void tell(struct session *s, const char *method, json_t *request)
{
	struct op op;

	op_init(&op, CALL_TIMEOUT_MS, -1);
	ignore_err(guest_call(s->spec->guest, method, request, NULL, &op));
	json_decref(request);
}

static void pass_signal(struct session *s, int signo)
{
	char name[32];

	if (s->pid == 0) {
		s->pending_signal = signo;
		return;
	}
	snprintf(name, sizeof(name), "SIGNAL_SIG%s", sigabbrev_np(signo));
	tell(s, "SendSignal",
	     json_pack("{s:{s:I}, s:s, s:b}", "process", "pid", s->pid, "signal", name, "group",
		       1));
}

static void set_size(struct session *s, struct terminal_size size)
{
	s->size = size;
	tell(s, "Update",
	     json_pack("{s:{s:I}, s:{s:{s:i, s:i}}}", "process", "pid", s->pid, "pty", "size",
		       "cols", size.cols, "rows", size.rows));
}

static void follow_size(struct session *s)
{
	struct terminal_size size = terminal_size();

	if (size.cols != s->size.cols || size.rows != s->size.rows)
		set_size(s, size);
}

/* Return: 0; -errno, s->op.err set. */
static int take_terminal(struct session *s)
{
	int r;

	if (!terminal_is_there())
		return err_set(&s->op.err, ERR_INVALID,
			       "process %lld has a terminal, and standard input is none",
			       (long long)s->pid);
	r = terminal_take(&s->terminal, &s->op.err);
	if (r < 0)
		return r;
	/* A program that somebody comes back to is to draw its screen anew, which it does when the
	 * size changes. */
	if (s->size.cols == 0)
		set_size(s, (struct terminal_size){ terminal_size().cols,
						    (unsigned short)(terminal_size().rows + 1) });
	follow_size(s);
	return 0;
}

static int on_started(struct session *s, const struct process_event *event)
{
	int r = 0;

	s->pid = event->pid;
	s->pty = event->pty && s->spec->input;
	if (s->pty)
		r = take_terminal(s);
	if (r < 0)
		return r;
	if (s->spec->input) {
		s->pump.guest = s->spec->guest;
		s->pump.pid = s->pid;
		s->pump.pty = s->pty;
		if (s->pty)
			s->pump.detach = *s->spec->keys;
		r = stdin_pump_start(&s->pump, &s->op.err);
	}
	if (r == 0 && s->pending_signal != 0)
		pass_signal(s, s->pending_signal);
	return r;
}

/* Whoever shares our terminal may have set it non-blocking; that is no reason to lose output. */
static int write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EAGAIN) {
			struct pollfd room = { .fd = fd, .events = POLLOUT };

			w = poll(&room, 1, -1) < 0 ? -1 : 0;
		}
		if (w < 0 && errno != EINTR)
			return -errno;
		p += MAX(w, 0);
		n -= (size_t)MAX(w, 0);
	}
	return 0;
}

/* We are to end, whatever the process does. */
static void leave(struct session *s, int signo)
{
	s->code = EXIT_SIGNAL_BASE + signo;
	s->over = true;
}

static int on_output(struct session *s, const struct process_event *event)
{
	int r = write_all(event->fd, event->bytes, event->n);

	/* Nobody reads us any more: a command of ours learns it as it would in a pipe. */
	if (r == -EPIPE && s->spec->own)
		pass_signal(s, SIGPIPE);
	else if (r == -EPIPE)
		leave(s, SIGPIPE);
	if (r == -EPIPE)
		return 0;
	return r < 0 ? err_errno(&s->op.err, -r, "write the command's output") : 0;
}

static int on_event(struct session *s, const struct process_event *event)
{
	switch (event->kind) {
	case PROCESS_STARTED:
		return on_started(s, event);
	case PROCESS_OUTPUT:
		return on_output(s, event);
	case PROCESS_ENDED:
		s->code = event->code;
		return 0;
	case PROCESS_FAILED:
		terminal_give_back(&s->terminal);
		fprintf(stderr, "viv: %s\n", event->message);
		s->code = event->code;
		return 0;
	}
	return 0;
}

/* Takes what has arrived. Return: 0; -errno, s->op.err set. */
static int read_stream(struct session *s)
{
	struct process_event event;
	int r = 0;

	while (!s->over && (r = process_stream_next(&s->stream, &event, &s->op)) > 0) {
		r = on_event(s, &event);
		if (r < 0)
			return r;
	}
	s->over = s->over || r == 0;
	return r == -EAGAIN ? 0 : r;
}

static void on_signal(struct session *s, int signo)
{
	bool ours = s->pty && (signo == SIGTERM || signo == SIGHUP);

	s->interrupts += signo == SIGINT;
	if (ours && s->spec->own)
		pass_signal(s, SIGHUP);
	else if (!ours && s->spec->signals)
		pass_signal(s, signo);
	if (ours || !s->spec->signals ||
	    (s->interrupts > 1 && s->spec->second_interrupt_ends && !s->pty))
		leave(s, signo);
}

static void read_signals(struct session *s)
{
	struct signalfd_siginfo info;

	while (!s->over &&
	       read(s->spec->guest->cli->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		on_signal(s, (int)info.ssi_signo);
}

static int follow(struct session *s)
{
	int r = read_stream(s);

	while (r == 0 && !s->over) {
		struct pollfd p[] = { { .fd = s->stream.client.fd, .events = POLLIN },
				      { .fd = s->spec->guest->cli->signal_fd, .events = POLLIN },
				      { .fd = s->terminal.signal_fd, .events = POLLIN },
				      { .fd = s->pump.detach_fd, .events = POLLIN } };

		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return err_errno(&s->op.err, errno, "poll");
		if (p[1].revents != 0)
			read_signals(s);
		if (p[2].revents != 0 && terminal_read_signals(&s->terminal))
			follow_size(s);
		if (p[0].revents != 0 && !s->over)
			r = read_stream(s);
		s->detached = s->detached || p[3].revents != 0;
		s->over = s->over || s->detached;
	}
	return r;
}

static struct session_end end_of(struct session *s, int r)
{
	struct session_end end = { .code = s->code, .pid = s->pid };

	if (r < 0) {
		end.code = cli_fail(s->spec->guest->cli, &s->op, EXIT_VIV);
	} else if (s->detached && s->code < 0) {
		end.detached = true;
		end.code = EXIT_OK;
	} else if (s->code < 0) {
		fprintf(stderr, "viv: the agent did not say how the command ended\n");
		end.code = EXIT_VIV;
	}
	return end;
}

struct session_end session_run(const struct session_spec *spec)
{
	struct session s = {
		.spec = spec,
		.stream = PROCESS_STREAM_INIT,
		.pump = STDIN_PUMP_INIT,
		.terminal = TERMINAL_INIT,
		.size = spec->size,
		.code = -1,
	};
	int r;

	op_init(&s.op, 0, spec->guest->cli->signal_fd);
	r = process_stream_open(&s.stream, spec->guest, spec->method, spec->request, &s.op);
	s.op.cancel_fd = -1; /* from here on signals are the command's */
	if (r == 0)
		r = follow(&s);
	stdin_pump_stop(&s.pump);
	terminal_give_back(&s.terminal);
	process_stream_done(&s.stream);
	return end_of(&s, r);
}
