#!/usr/bin/env python3
"""docs/formats/log.md, snapshot.md and row.md against the files of a real node.

    formats_doc.py PAGES DATA_DIR ROWS            decode a stopped node's directory; ROWS has what
                                                  psql says that the table "things" has
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




# -- the tables of the pages ----------------------------------------------------------------------


class Layout:
    """Fields of a struct, as a page has them: (offset, size, what it says)."""

    def __init__(self, name, fields):
        self.name = name
        self.fields = fields
        at = 0
        for offset, size, what in fields:
            assert offset == at, f"{name}: {what} at {offset}, the field before ends at {at}"
            at += size
        self.size = at

    def find(self, words):
        found = [field for field in self.fields if words == field[2]]
        found = found or [field for field in self.fields if field[2].startswith(words)]
        assert len(found) == 1, f"{self.name} has {len(found)} fields with the words: {words}"
        return found[0]

    def number(self, data, words):
        offset, size, _ = self.find(words)
        return int.from_bytes(data[offset : offset + size], "little")

    def bytes(self, data, words):
        offset, size, _ = self.find(words)
        return bytes(data[offset : offset + size])

    def check_zero(self, data):
        for offset, size, what in self.fields:
            if what == "zero":
                assert not any(data[offset : offset + size]), f"{self.name}: not zero at {offset}"

    def check_magic(self, data):
        _, _, what = self.find("magic")
        wanted = bytes.fromhex(re.search(r"`([0-9a-f ]+)`", what).group(1))
        got = self.bytes(data, "magic")
        assert got == wanted, f"{self.name}: magic {got}, the page says {wanted}"


def layouts(page):
    """Every table of offsets and sizes: heading -> list of Layout."""
    found = {}
    heading = ""
    fields = None
    for line in page.read_text().splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[:2] in (["at", "bytes"], ["offset", "bytes"]):
            fields = []
            found.setdefault(heading, []).append(fields)
        elif line.startswith("|") and fields is not None:
            if cells[0].isdigit() and cells[1].isdigit():
                fields.append((int(cells[0]), int(cells[1]), cells[2]))
        else:
            fields = None
    return {
        heading: [Layout(heading, fields) for fields in tables if heading != "Row in memory"]
        for heading, tables in found.items()
    }


# -- small things ---------------------------------------------------------------------------------


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def more(self):
        return self.at < len(self.data)

    def take(self, count):
        assert self.at + count <= len(self.data), "the bytes end too early"
        self.at += count
        return bytes(self.data[self.at - count : self.at])

    def u8(self):
        return self.take(1)[0]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def v(self):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def z(self):
        value = self.v()
        return value >> 1 ^ -(value & 1)

    def s(self):
        return self.take(self.v())


BIGINT, DOUBLE, TEXT, VARCHAR, BYTEA, TIMESTAMP = 4, 5, 6, 7, 8, 9
WIDTHS = {1: 1, 2: 2, 3: 4, 4: 8, 5: 8, 9: 8}  # checked against the page below
MASK64 = 2**64 - 1


def check_types(page):
    for number, width in re.findall(r"^\| (\d+) \| [a-z ]+ \| (\d+)", page.read_text(), re.M):
        if int(number) <= 10:
            assert WIDTHS[int(number)] == int(width), f"row.md: type {number} is {width} bytes wide"


def decode_payload(payload, types):
    """Row payload of row.md: a value for each column; (identity,) for a large one."""
    reader = Reader(payload)
    nulls = reader.take((len(types) + 7) // 8)
    is_null = [nulls[i // 8] >> i % 8 & 1 for i in range(len(types))]
    values = [None] * len(types)
    for i, kind in enumerate(types):
        if kind in WIDTHS:
            raw = reader.take(WIDTHS[kind])
            value = int.from_bytes(raw, "little", signed=True)
            values[i] = struct.unpack("<d", raw)[0] if kind == DOUBLE else value
            assert not is_null[i] or not any(raw), "a NULL is not zero"
    variable = [i for i, kind in enumerate(types) if kind not in WIDTHS]
    ends = [struct.unpack("<I", reader.take(4))[0] for _ in variable]
    begin = 0
    for i, end in zip(variable, ends):
        raw = reader.take((end & 0x7FFFFFFF) - begin)
        begin = end & 0x7FFFFFFF
        values[i] = (raw,) if end >> 31 else raw
    assert not reader.more(), "bytes behind the row"
    return [None if null else value for null, value in zip(is_null, values)]


def decode_table(definition):
    """A definition of kind 1: table id, name, types of the columns."""
    reader = Reader(definition)
    assert reader.take(2) == b"\1\0", "a definition of another version"
    table, _version, _schema, name = reader.v(), reader.v(), reader.s(), reader.s()
    reader.z()
    types = []
    for _ in range(reader.v()):
        reader.v()
        reader.s()
        types.append(reader.u8())
        flags = reader.u8()
        reader.v()
        if flags & 2:
            reader.s()
    return table, name.decode(), types


# -- snapshot.md ----------------------------------------------------------------------------------


def read_snapshot(pages, data_dir, uuid):
    """Rows of the newest snapshot: {(table, block): payload}; with its position and state hash."""
    tables = layouts(pages / "snapshot.md")
    head, part_facts = tables["Manifest"]
    part_head, chunk_head = tables["Part file"]
    path = max((data_dir / "snapshots").glob("*.manifest"))
    manifest = path.read_bytes()
    parts = head.number(manifest, "number of parts")
    assert head.size == head.number(manifest, "bytes of this head") == 96
    assert len(manifest) == head.size + parts * part_facts.size
    head.check_magic(manifest)
    head.check_zero(manifest)
    crc_at = head.find("CRC of bytes 0 to 91")[0]
    crc = crc32c(manifest[head.size :], crc32c(manifest[:crc_at]))
    assert crc == head.number(manifest, "CRC of bytes 0 to 91"), "the manifest's CRC"
    assert head.bytes(manifest, "UUID") == uuid
    position = head.number(manifest, "position of the cut")
    assert path.name == f"{position:020}.manifest"
    rows = {}
    for number in range(parts):
        facts = manifest[head.size + number * part_facts.size :][: part_facts.size]
        data = path.with_name(f"{position:020}-{number:04}.part").read_bytes()
        assert len(data) == part_facts.number(facts, "bytes of the file")
        part_head.check_magic(data)
        part_head.check_zero(data)
        assert part_head.size == part_head.number(data, "bytes of this header") == 64
        assert part_head.number(data, "number of this part") == number
        assert part_head.number(data, "position of the cut") == position
        crc = part_head.number(data, "CRC of bytes 0 to 59")
        assert crc == crc32c(data[:60]), "the part's CRC"
        at, chunks, in_part = part_head.size, 0, 0
        while at < len(data):
            chunk = data[at : at + chunk_head.size]
            chunk_head.check_magic(chunk)
            chunk_head.check_zero(chunk)
            assert chunk_head.number(chunk, "number of the chunk") == chunks
            payload = data[at + chunk_head.size :][: chunk_head.number(chunk, "bytes of the payload")]
            # Both are begun with the CRC of what lies before.
            assert chunk_head.number(chunk, "CRC of the payload") == crc32c(payload, crc)
            assert chunk_head.number(chunk, "CRC of bytes 0 to 27") == crc32c(chunk[:28], crc)
            crc = chunk_head.number(chunk, "CRC of bytes 0 to 27")
            at += chunk_head.size + len(payload)
            chunks += 1
            kind = chunk_head.number(chunk, "kind")
            reader = Reader(payload)
            if kind in (1, 2):
                count = 0
                while reader.more():
                    table, block, _position, size = reader.v(), reader.v(), reader.v(), reader.v()
                    rows[table, block] = reader.take(size)
                    count += 1
                assert count == chunk_head.number(chunk, "rows in it")
                in_part += count
            elif kind == 3:
                while reader.more():
                    reader.v()
                    for _ in range(reader.v()):
                        reader.v(), reader.v()
        assert kind == 4, "the last chunk is not the end"
        assert chunks == part_facts.number(facts, "chunks")
        assert in_part == part_facts.number(facts, "rows")
        assert crc == part_facts.number(facts, "the last four bytes")
    assert len(rows) == head.number(manifest, "rows")
    return rows, position, head.number(manifest, "state hash")


# -- log.md ---------------------------------------------------------------------------------------


def read_batches(pages, data_dir, uuid, seed):
    """Of all segments, in order: batch header's facts and the bytes of its records."""
    tables = layouts(pages / "log.md")
    (segment_head,) = tables["Segment file"]
    (sector_head,) = tables["Sector (512 bytes)"]
    (batch_head,) = tables["Batch"]
    assert segment_head.size == 4096 and sector_head.size == 512 and batch_head.size == 64
    batches, previous_crc = [], 0
    for path in sorted((data_dir / "log").glob("*.seg")):
        data = path.read_bytes()
        header = data[:4096]
        if not any(header):
            continue
        segment_head.check_magic(header)
        segment_head.check_zero(header)
        crc_at = segment_head.find("CRC of all 4,096")[0]
        crc = crc32c(header[:crc_at] + bytes(4) + header[crc_at + 4 :])
        assert crc == segment_head.number(header, "CRC of all 4,096"), "the segment header's CRC"
        assert segment_head.number(header, "bytes of the file") == len(data)
        assert path.name == f"{segment_head.number(header, 'number of the segment'):08}.seg"
        assert segment_head.bytes(header, "UUID") == uuid
        assert segment_head.bytes(header, "secret seed") == seed
        assert segment_head.number(header, "CRC field of the last batch") == previous_crc
        generation = segment_head.number(header, "generation")
        at = 4096
        while at < len(data) and any(data[at : at + 512]):
            payload, sectors, wanted = b"", 0, 1
            while sectors < wanted:
                sector = data[at : at + 512]
                assert sector_head.number(sector, "generation of the segment") == generation
                assert sector_head.number(sector, "ordinal: which") == sectors
                body = sector_head.bytes(sector, "payload; zero behind")
                crc = crc32c(struct.pack("<III", generation, at // 512, sectors) + body)
                assert crc == sector_head.number(sector, "CRC of generation"), "a sector's CRC"
                payload += body
                at += 512
                sectors += 1
                size = 64 + batch_head.number(payload, "bytes of the records")
                wanted = -(-size // 500)
            batch_head.check_magic(payload)
            batch_head.check_zero(payload[:64])
            assert batch_head.number(payload, "format version") == 2
            crc = batch_head.number(payload, "CRC of bytes 0 to 59")
            assert crc == crc32c(payload[:60]), "the batch header's CRC"
            records = payload[64:size]
            assert crc32c(records) == batch_head.number(payload, "CRC of the records")
            assert batch_head.number(payload, "CRC field of the batch header before") == previous_crc
            assert not any(payload[size:]), "bytes behind the end of a batch"
            previous_crc = crc
            batches.append(
                {
                    "records": records,
                    "count": batch_head.number(payload, "number of records"),
                    "first": batch_head.number(payload, "first position"),
                    "last": batch_head.number(payload, "last position"),
                    "state_hash": batch_head.number(payload, "state hash"),
                }
            )
    return batches


def read_argument(reader):
    """(type, value) of an argument of a record."""
    byte = reader.u8()
    kind, form = byte & 15, byte >> 4
    if form == 1:
        return kind, None
    if form == 2:
        return kind, (reader.take(24),)
    if form >= 3:
        return kind, form - 3
    if kind == DOUBLE:
        return kind, reader.u64()
    return kind, reader.s() if kind in (0, TEXT, VARCHAR, BYTEA) else reader.z()


def key_bytes(number):
    return b"\1" + (number + 2**63).to_bytes(8, "big")


def read_image(reader, arguments, base=b""):
    size, image = reader.v(), b""
    while len(image) < size:
        step = reader.u8()
        low = step & 15
        if step < 0x40:
            image += reader.take(reader.v() if step == 0x3F else step + 1)
        elif step < 0x50:
            image += bytes(low + 1)
        elif step < 0x60 or step == 0x75:
            count = reader.v() if step == 0x75 else low + 1
            image += base[len(image) : len(image) + count]
        elif step < 0x70:
            image += arguments[low][1]
        elif step < 0x74:
            image += (reader.z() & MASK64).to_bytes(8, "little")[: 1 << low]
        elif step == 0x74:
            image += key_bytes(reader.z())
        elif step == 0x76:
            place, count = reader.v(), reader.v()
            image += base[place : place + count]
        elif 0x78 <= step < 0x80:
            image += key_bytes(arguments[step & 7][1])
        elif step < 0x80:
            raise AssertionError(f"step {step:#x} is not on the page")
        elif step < 0xC0:
            number = arguments[low][1] & MASK64
            image += number.to_bytes(8, "little")[: 1 << (step // 16 % 4)]
        else:
            image += low.to_bytes(8, "little")[: 1 << (step // 16 % 4)]
    assert len(image) == size, "an image is longer than it says"
    return image


def read_record(reader, rows, position):
    """One record: its writes are applied to `rows`. How many of each operation there were."""
    start = reader.at
    frame = struct.unpack("<I", reader.take(4))[0]
    end = start + (frame & (1 << 26) - 1)
    assert frame >> 26 == 2, "a record of another version"
    bits = reader.v()
    assert reader.v() == position, "the position of a record"
    reader.z()
    reader.z()
    if reader.u8() == 0:
        reader.v(), reader.v()
    reader.z() if bits & 1 else reader.v()
    reader.v(), reader.v(), reader.v()
    if bits & 2:
        reader.u64()
    for bit in (4, 8):
        if bits & bit:
            reader.v()
    arguments = [read_argument(reader) for _ in range(reader.v())]
    ops = []
    last_read = last_block = table = read_table = 0
    while reader.at < end:
        op = reader.u8()
        if op >= 0xC0:
            if not op & 0x20:
                read_table = reader.v()
            last_read = last_block = last_read + reader.z()
            table = read_table
            ops += [9, 4]
            continue
        if op >= 0x80:
            if op & 63 == 63:
                reader.v()
            ops.append(9)
            continue
        kind = op & 0x1F
        ops.append(kind)
        if kind in (1, 2, 3):
            if not op & 0x20:
                table = reader.v()
            last_block += reader.z() * (1024 if op & 0x40 else 1)
            before = None
            if kind != 1:
                reader.v()
                before = read_image(reader, arguments)
                assert rows.pop((table, last_block)) == before, "a before image"
            if kind != 2:
                rows[table, last_block] = read_image(reader, arguments, before or b"")
        elif kind in (4, 5, 6, 7):
            if not op & 0x20:
                read_table = reader.v()
            if kind == 4:
                table = read_table
                first = last_read + reader.z()
                last_read = last_block = first + 1024 * ((1 if op & 0x40 else reader.v()) - 1)
            elif kind == 7:
                reader.v(), reader.v()
            else:
                reader.v()
                if kind == 5:
                    reader.u8()
                    read_image(reader, arguments)
                read_image(reader, arguments)
                if kind == 5:
                    reader.v()
        elif kind == 8:
            reader.v(), reader.v(), reader.u64()
        elif kind == 9:
            reader.u64()
        elif kind == 10:
            reader.v(), reader.s(), reader.s(), reader.s(), reader.s()
        elif kind == 11:
            reader.u64(), reader.s()
        else:
            raise AssertionError(f"operation {op:#x} is not on the page")
    assert reader.at == end, "a record is longer than it says"
    return ops


def read_blobs(pages, data_dir):
    """{identity: content} of the blob files."""
    (head,) = layouts(pages / "log.md")["Blob file"]
    (identity,) = layouts(pages / "row.md")["Object identity (24 bytes)"]
    assert head.size == 64 and identity.size == 24
    found = {}
    for path in sorted((data_dir / "blobs").glob("*.blob")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            header = data[at : at + 64]
            head.check_magic(header)
            head.check_zero(header)
            assert crc32c(header[:60]) == head.number(header, "CRC of bytes 0 to 59")
            name = head.bytes(header, "identity")
            size = identity.number(name, "size of the content")
            content = data[at + 64 : at + 64 + size]
            assert crc32c(content) == head.number(header, "CRC of the value")
            found[name] = content
            at += -(-(64 + size) // 512) * 512
    return found


def main(pages, data_dir, expected):
    (identity,) = layouts(pages / "log.md")["Identity file (64 bytes)"]
    check_types(pages / "row.md")
    data = (data_dir / "identity").read_bytes()
    assert len(data) == identity.size == identity.number(data, "size of this struct") == 64
    identity.check_magic(data)
    identity.check_zero(data)
    assert crc32c(data[:60]) == identity.number(data, "CRC of bytes 0 to 59")
    uuid, seed = identity.bytes(data, "UUID"), identity.bytes(data, "secret seed")

    at_cut, cut, cut_hash = read_snapshot(pages, data_dir, uuid)
    rows, position, ops, is_compared = {}, 0, [], False
    for batch in read_batches(pages, data_dir, uuid, seed):
        assert batch["first"] == position + 1 and batch["count"] == batch["last"] - position
        reader = Reader(batch["records"])
        while position < batch["last"]:
            position += 1
            ops += read_record(reader, rows, position)
            if position == cut:
                assert rows == at_cut, "the rows of the log are not those of the snapshot"
                assert position != batch["last"] or batch["state_hash"] == cut_hash
                is_compared = True
        assert not reader.more()
    assert is_compared, "the log does not come by the snapshot's position"

    tables = {1: ("catalog", [2, 4, 6, 3, 8])}
    for (table, _), payload in rows.items():
        if table == 1:
            kind, _, _, _, definition = decode_payload(payload, tables[1][1])
            if kind == 1:
                number, name, types = decode_table(definition)
                tables[number] = (name, types)
    blobs = read_blobs(pages, data_dir)
    lines = []
    for (table, _), payload in rows.items():
        if tables.get(table, ("",))[0] == "things":
            values = decode_payload(payload, tables[table][1])
            values = [blobs[v[0]] if isinstance(v, tuple) else v for v in values]
            lines.append("|".join("" if v is None else v.decode() if isinstance(v, bytes) else str(v) for v in values))
    assert sorted(lines) == sorted(expected.read_text().splitlines()), "\n".join(sorted(lines))
    print(f"{position} records, operations {sorted(set(ops))}, {len(at_cut)} rows of a snapshot,"
          f" {len(blobs)} large values: decoded by the pages")


if __name__ == "__main__":
    if sys.argv[1] == "--set-version":
        set_version(int(sys.argv[2]), sys.argv[3])
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
