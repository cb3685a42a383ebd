#!/usr/bin/env python3
"""docs/formats/log.md, snapshot.md and row.md against the files of a real node.

    formats_doc.py PAGES DATA_DIR                 decode a stopped node's directory
    formats_doc.py --set-version N SEGMENT        another format version in a segment's header

The structs are not written down here: their fields, with offset and size, are read from the tables
of the pages, so that a table that is wrong decodes nothing. What the tables say in words (which CRC
is over what) is below.
"""
import re
import struct
import sys
from pathlib import Path

CRC_TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    CRC_TABLE.append(byte)


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def set_version(version, path):
    """As a newer program would leave it: with a checksum that is right."""
    with open(path, "r+b") as file:
        header = bytearray(file.read(4096))
        if not any(header):
            return  # prepared, and not in use
        header[4:6] = struct.pack("<H", version)
        header[68:72] = bytes(4)
        header[68:72] = struct.pack("<I", crc32c(header))
        file.seek(0)
        file.write(header)


if __name__ == "__main__" and sys.argv[1] == "--set-version":
    set_version(int(sys.argv[2]), sys.argv[3])
