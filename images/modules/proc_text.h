/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef VPATCH_PROC_TEXT_H
#define VPATCH_PROC_TEXT_H

#include <linux/err.h>
#include <linux/fs.h>
#include <linux/string.h>
#include <linux/types.h>

/**
 * vpatch_proc_text() - read a file whose text stays the same until reboot
 * @path:	the file
 * @marker:	the text is cut where this begins, or else at the line's end
 * @text:	filled in
 * @size:	of @text
 *
 * What these files show is in variables the kernel does not export. A
 * replacement function shows what the file said before, less what an older
 * version of the livepatch had added.
 *
 * Return: 0, or a negative error code
 */
static inline int vpatch_proc_text(const char *path, const char *marker,
				   char *text, size_t size)
{
	struct file *file = filp_open(path, O_RDONLY, 0);
	loff_t pos = 0;
	ssize_t len;
	char *end;

	if (IS_ERR(file))
		return PTR_ERR(file);
	len = kernel_read(file, text, size - 1, &pos);
	filp_close(file, NULL);
	if (len < 0)
		return len;
	if (len == size - 1)
		return -E2BIG;

	text[len] = '\0';
	end = strstr(text, marker);
	if (!end)
		end = strchrnul(text, '\n');
	*end = '\0';

	return 0;
}

#endif /* VPATCH_PROC_TEXT_H */
