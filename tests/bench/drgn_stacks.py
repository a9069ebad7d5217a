#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Walks all tasks' kernel stacks in a core file with drgn, for bench_introspect to compare with.

drgn_stacks.py CORE VMLINUX NOTE [ROUNDS]

NOTE is the guest-physical address of the VMCOREINFO note. drgn wants that note in the core's
headers, where QEMU puts it only for a VM with a vmcoreinfo device, and a virtual address for the
top page table. Both are added to CORE first: a new table of program headers at its end.
Prints one line of JSON; times are in seconds.
"""
import json
import os
import struct
import sys
import time

PT_LOAD, PT_NOTE = 1, 4
PHDR = struct.Struct("<IIQQQQQQ")  # type, flags, offset, vaddr, paddr, filesz, memsz, align
KERNEL_MAP = 0xFFFFFFFF80000000  # __START_KERNEL_map of x86-64
NHDR = struct.Struct("<III")


def program_headers(core):
    core.seek(0)
    header = core.read(64)
    start, = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    assert header[:4] == b"\x7fELF" and size == PHDR.size and count < 0xFFFE
    core.seek(start)
    table = core.read(size * count)
    return [list(PHDR.unpack_from(table, i * size)) for i in range(count)]


def place_of(headers, phys):
    load = next(h for h in headers if h[0] == PT_LOAD and h[4] <= phys < h[4] + h[5])
    return load[2] + phys - load[4]


def add_kernel_facts(path, note):
    with open(path, "r+b") as core:
        headers = program_headers(core)
        notes_header = next(h for h in headers if h[0] == PT_NOTE)
        core.seek(notes_header[2])
        notes = core.read(notes_header[5])
        if b"VMCOREINFO\0" in notes:
            return
        core.seek(place_of(headers, note))
        head = core.read(NHDR.size)
        name_size, text_size, _ = NHDR.unpack(head)
        assert name_size == 11 and text_size <= 8192
        body = core.read(12 + text_size)
        notes += b"\0" * (-len(notes) % 4) + head + body + b"\0" * (-text_size % 4)
        facts = dict(line.split("=", 1) for line in body[12:].decode().splitlines() if "=" in line)
        table = int(facts["SYMBOL(swapper_pg_dir)"], 16)
        table_phys = table - KERNEL_MAP + int(facts["NUMBER(phys_base)"])
        headers.append([PT_LOAD, 4, place_of(headers, table_phys), table, table_phys, 4096, 4096, 0])
        end = core.seek(0, os.SEEK_END)
        notes_header[2] = end
        notes_header[5] = notes_header[6] = len(notes)
        core.write(notes)
        for header in headers:
            core.write(PHDR.pack(*header))
        core.seek(32)
        core.write(struct.pack("<Q", end + len(notes)))
        core.seek(56)
        core.write(struct.pack("<H", len(headers)))


def walk(prog, for_each_task):
    tasks = failed = frames = 0
    for task in for_each_task(prog):
        tasks += 1
        try:
            for frame in prog.stack_trace(task):
                frames += 1
                frame.name  # what a reader of the stack wants; looked up here
        except (LookupError, ValueError):
            failed += 1
    return tasks, failed, frames


def frames_of(prog, task):
    try:
        return list(prog.stack_trace(task))
    except (LookupError, ValueError):
        return []


def main():
    core, vmlinux, note = sys.argv[1], sys.argv[2], int(sys.argv[3], 0)
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    add_kernel_facts(core, note)
    start = time.monotonic()
    import drgn
    from drgn.helpers.linux.pid import for_each_task
    prog = drgn.Program()
    prog.set_core_dump(core)
    prog.load_debug_info([vmlinux])
    loaded = time.monotonic()
    walks = []
    for _ in range(rounds):
        begin = time.monotonic()
        tasks, failed, frames = walk(prog, for_each_task)
        walks.append(time.monotonic() - begin)
    inlined = sum(frame.is_inline for task in for_each_task(prog) for frame in frames_of(prog, task))
    print(json.dumps({
        "load": loaded - start, "first_walk": walks[0], "best_walk": min(walks),
        "tasks": tasks, "failed": failed, "frames": frames, "inlined": inlined}))


if __name__ == "__main__":
    main()
