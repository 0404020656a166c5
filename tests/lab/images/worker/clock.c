/* Stands for the kernel's clock discipline, in programs that this library is loaded into.
 *
 * The nodes of the lab share the clock of the computer that they run on. systemd-timesyncd may not
 * set it; what it would tell the kernel is kept in a file, which is gone after a boot as the
 * kernel's own state is. systemd-timedated reads it there. Real: the service, its servers, SNTP, and
 * who asks whether the clock is synchronised. Not real: the clock itself never changes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

/* The service may write in no other folder. */
#define STATE "/run/systemd/timesync/lab-clock"
/* Microseconds: `NTP_PHASE_LIMIT`, and what `second_overflow` adds each second (kernel/time/ntp.c) */
#define LIMIT 16000000L
#define DRIFT 500L

struct state {
    long maxerror;
    int status;
    struct timespec at;
};

static long load(struct state *state) {
    struct timespec now;
    int file = open(STATE, O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, state, sizeof *state) != sizeof *state) {
        *state = (struct state){.maxerror = LIMIT, .status = STA_UNSYNC};
    }
    if (file >= 0) close(file);
    clock_gettime(CLOCK_BOOTTIME, &now);
    long error = state->maxerror + (now.tv_sec - state->at.tv_sec) * DRIFT;
    return error < LIMIT ? error : LIMIT;
}

static int keep(const struct state *state) {
    int file = open(STATE ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0) return -1;
    int done = write(file, state, sizeof *state) == sizeof *state ? 0 : -1;
    close(file);
    return done ? done : rename(STATE ".new", STATE);
}

int clock_adjtime(clockid_t clock, struct timex *with) {
    struct state state;
    long error = load(&state);
    (void)clock;
    if (with->modes) {
        if (with->modes & ADJ_MAXERROR) error = with->maxerror;
        if (with->modes & ADJ_STATUS) state.status = with->status;
        state.maxerror = error;
        clock_gettime(CLOCK_BOOTTIME, &state.at);
        if (keep(&state) < 0) return -1;
    }
    if (error >= LIMIT) state.status |= STA_UNSYNC;
    with->maxerror = error;
    with->status = state.status;
    gettimeofday(&with->time, NULL);
    return state.status & STA_UNSYNC ? TIME_ERROR : TIME_OK;
}

int adjtimex(struct timex *with) { return clock_adjtime(CLOCK_REALTIME, with); }

int ntp_adjtime(struct timex *with) { return clock_adjtime(CLOCK_REALTIME, with); }

int clock_settime(clockid_t clock, const struct timespec *to) {
    (void)clock;
    (void)to;
    return 0;
}

int settimeofday(const struct timeval *to, const struct timezone *zone) {
    (void)to;
    (void)zone;
    return 0;
}
