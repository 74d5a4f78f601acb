#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <scsi/sg.h>
/* A SCSI disk with SMART, as far as smartd asks: loaded before libc, it answers every
   SG_IO, so that the real smartd has something to watch on a machine without disks. */
int ioctl(int fd, unsigned long request, ...) {
	va_list list; va_start(list, request); void *argument = va_arg(list, void *); va_end(list);
	if (request != SG_IO)
		return ((int (*)(int, unsigned long, void *))dlsym(RTLD_NEXT, "ioctl"))(fd, request, argument);
	sg_io_hdr_t *io = argument;
	unsigned char *out = io->dxferp;
	io->status = io->host_status = io->driver_status = io->sb_len_wr = 0; io->resid = 0;
	if (io->dxfer_direction == SG_DXFER_FROM_DEV && out) memset(out, 0, io->dxfer_len);
	switch (io->cmdp[0]) {
	case 0x00: return 0; /* TEST UNIT READY */
	case 0x12: /* INQUIRY */
		if (io->cmdp[1] & 1) break;
		out[2] = 5; out[4] = 31; memcpy(out + 8, "LAB     DISK            1   ", 28);
		return 0;
	case 0x1a: case 0x5a: { /* MODE SENSE */
		int head = io->cmdp[0] == 0x1a ? 4 : 8;
		if ((io->cmdp[2] & 0x3f) != 0x1c) break;
		if (head == 4) out[0] = head + 12 - 1; else out[1] = head + 12 - 2;
		out[head] = 0x1c; out[head + 1] = 10; out[head + 3] = 6;
		return 0; }
	case 0x03: return 0; /* REQUEST SENSE */
	}
	io->status = 2; /* CHECK CONDITION: illegal request, invalid command */
	if (io->sbp && io->mx_sb_len >= 18) {
		memset(io->sbp, 0, 18); io->sbp[0] = 0x70; io->sbp[2] = 5; io->sbp[7] = 10; io->sbp[12] = 0x20; io->sb_len_wr = 18;
	}
	return 0;
}
