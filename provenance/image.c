#include "provenance/image.h"

#include "provenance/record_format.h"
#include "storage/row_read.h"

/* Steps; docs/formats/log.md. */
enum {
    STEP_LITERAL = 0x00,      /* 0x00..0x3e: 1..63 bytes follow */
    STEP_LITERAL_LONG = 0x3f, /* varint count, bytes */
    STEP_ZERO = 0x40,         /* 0x40..0x4f: 1..16 zeroes */
    STEP_COPY = 0x50,         /* 0x50..0x5f: 1..16 bytes of the base, from the same place */
    STEP_ARG_BYTES = 0x60,    /* 0x60..0x6f: the bytes of an argument */
    STEP_INT = 0x70,          /* 0x70..0x73: 1, 2, 4, 8 bytes of a zig-zag number */
    STEP_KEY_INT = 0x74,      /* key bytes of a zig-zag number: 01, big-endian, sign flipped */
    STEP_COPY_LONG = 0x75,    /* varint count */
    STEP_MOVE = 0x76,         /* varint place in the base, varint count */
    STEP_KEY_ARG = 0x78,      /* 0x78..0x7f: key bytes of the number in argument 0..7 */
    STEP_ARG = 0x80,          /* 0x80 | width << 4 | argument: its lower 1, 2, 4, 8 bytes */
    STEP_SMALL = 0xc0,        /* 0xc0 | width << 4 | value: 1, 2, 4, 8 bytes */

    LITERAL_MAX = 63,
    RUN_MAX = 16, /* of ZERO and COPY */
    SMALL_MAX = 15,
    KEY_ARGUMENTS = 8,
    KEY_NUMBER = 0x01, /* first byte of a key that is a value */
    KEY_NUMBER_BYTES = 9,
    MOVE_BYTES_MIN = 16,
};

/* Arguments in the head: type in the lower four bits, one of these above. */
enum { FORM_VALUE, FORM_NULL, FORM_REFERENCE, FORM_SMALL /* + value 0..12 */, FORM_MAX = 15 };

/* --- arguments ------------------------------------------------------------------------------- */

static bool is_integer(uint8_t type) {
    return type == DBOS_TYPE_INT4 || type == DBOS_TYPE_INT8 || type == DBOS_TYPE_INT2 ||
           type == DBOS_TYPE_BOOL || type == DBOS_TYPE_TIMESTAMPTZ;
}

static uint64_t real_bits(double real) {
    uint64_t bits;
    memcpy(&bits, &real, sizeof bits);
    return bits;
}

static void note_number(struct dbos_image_arguments *arguments, uint64_t bits) {
    uint32_t i = arguments->count++;
    if (i < DBOS_IMAGE_ARGUMENTS) {
        arguments->at[i].kind = DBOS_IMAGE_NUMBER;
        arguments->at[i].bits = bits;
    }
}

static void note_bytes(struct dbos_image_arguments *arguments, struct dbos_bytes bytes) {
    uint32_t i = arguments->count++;
    if (i < DBOS_IMAGE_ARGUMENTS) {
        bool fits = bytes.size_bytes != 0 && bytes.size_bytes <= DBOS_IMAGE_STEP_BYTES_MAX;
        arguments->at[i].kind = fits ? DBOS_IMAGE_BYTES : DBOS_IMAGE_NOTHING;
        arguments->at[i].bytes = bytes;
    }
}

static void note_nothing(struct dbos_image_arguments *arguments) {
    uint32_t i = arguments->count++;
    if (i < DBOS_IMAGE_ARGUMENTS) {
        arguments->at[i].kind = DBOS_IMAGE_NOTHING;
    }
}

void dbos_image_note_argument(struct dbos_image_arguments *arguments,
                              const struct dbos_datum *datum) {
    if (datum->is_null || datum->object != NULL) {
        note_nothing(arguments);
    } else if (is_integer(datum->type)) {
        note_number(arguments, (uint64_t)datum->integer);
    } else if (datum->type == DBOS_TYPE_FLOAT8) {
        note_number(arguments, real_bits(datum->real));
    } else {
        note_bytes(arguments, datum->bytes);
    }
}

void dbos_image_put_argument(struct dbos_buf *to, const struct dbos_datum *datum) {
    unsigned type = datum->type;
    if (datum->is_null) {
        dbos_buf_put_u8(to, (uint8_t)(FORM_NULL << 4 | type));
    } else if (datum->object != NULL) {
        dbos_buf_put_u8(to, (uint8_t)(FORM_REFERENCE << 4 | type));
        dbos_buf_put(to, &datum->object->id, sizeof datum->object->id);
    } else if (!is_integer(datum->type)) {
        dbos_buf_put_u8(to, (uint8_t)(FORM_VALUE << 4 | type));
        if (type == DBOS_TYPE_FLOAT8) {
            dbos_buf_put_u64(to, real_bits(datum->real));
        } else {
            dbos_buf_put_sized(to, datum->bytes.data, datum->bytes.size_bytes);
        }
    } else if (datum->integer >= 0 && datum->integer <= FORM_MAX - FORM_SMALL) {
        dbos_buf_put_u8(to, (uint8_t)((unsigned)(FORM_SMALL + datum->integer) << 4 | type));
    } else {
        dbos_buf_put_u8(to, (uint8_t)(FORM_VALUE << 4 | type));
        dbos_buf_put_zigzag(to, datum->integer);
    }
}

/* One argument, read. */
struct stored_argument {
    uint8_t type;
    uint8_t form; /* FORM_VALUE, NULL or REFERENCE */
    uint64_t bits;
    struct dbos_bytes bytes; /* value or identity */
};

static struct stored_argument get_argument(struct dbos_reader *reader) {
    uint8_t first = dbos_get_u8(reader);
    struct stored_argument argument = {.type = first & 0x0f, .form = first >> 4};
    if (argument.form >= FORM_SMALL) {
        reader->failed |= !is_integer(argument.type);
        argument.bits = (uint64_t)argument.form - FORM_SMALL;
        argument.form = FORM_VALUE;
    } else if (argument.form == FORM_REFERENCE) {
        argument.bytes.data = dbos_get(reader, sizeof(struct dbos_object_id));
        argument.bytes.size_bytes = sizeof(struct dbos_object_id);
    } else if (argument.form == FORM_VALUE && is_integer(argument.type)) {
        argument.bits = (uint64_t)dbos_get_zigzag(reader);
    } else if (argument.form == FORM_VALUE && argument.type == DBOS_TYPE_FLOAT8) {
        argument.bits = dbos_get_u64(reader);
    } else if (argument.form == FORM_VALUE) {
        argument.bytes = dbos_get_sized(reader);
    }
    reader->failed |= argument.type > DBOS_TYPE_VOID;
    return argument;
}

static size_t varint_bytes(uint64_t value) {
    size_t bytes = 1;
    while (value >= 0x80) {
        value >>= 7;
        bytes++;
    }
    return bytes;
}

static uint64_t zigzag(uint64_t bits) { return (bits << 1) ^ ((int64_t)bits < 0 ? UINT64_MAX : 0); }

/* As dbos_datum_put() writes it: type, form, value. */
static size_t datum_bytes(const struct stored_argument *argument) {
    if (argument->form == FORM_NULL) {
        return 2;
    }
    if (argument->form == FORM_REFERENCE) {
        return 2 + argument->bytes.size_bytes;
    }
    if (is_integer(argument->type)) {
        return 2 + varint_bytes(zigzag(argument->bits));
    }
    if (argument->type == DBOS_TYPE_FLOAT8) {
        return 2 + sizeof argument->bits;
    }
    return 2 + varint_bytes(argument->bytes.size_bytes) + argument->bytes.size_bytes;
}

static uint8_t *put_plain(uint8_t *to, struct dbos_bytes bytes) {
    if (bytes.size_bytes != 0) {
        memcpy(to, bytes.data, bytes.size_bytes);
    }
    return to + bytes.size_bytes;
}

static uint8_t *put_datum(uint8_t *to, const struct stored_argument *argument) {
    *to++ = argument->type;
    *to++ = argument->form;
    if (argument->form == FORM_NULL) {
        return to;
    }
    if (argument->form == FORM_REFERENCE) {
        return put_plain(to, argument->bytes);
    }
    if (is_integer(argument->type)) {
        return dbos_store_zigzag(to, (int64_t)argument->bits);
    }
    if (argument->type == DBOS_TYPE_FLOAT8) {
        dbos_store_u64(to, argument->bits);
        return to + sizeof argument->bits;
    }
    return put_plain(dbos_store_varint(to, argument->bytes.size_bytes), argument->bytes);
}

size_t dbos_image_arguments_bytes(struct dbos_reader *reader, uint32_t count) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < count && !reader->failed; i++) {
        struct stored_argument argument = get_argument(reader);
        bytes += datum_bytes(&argument);
    }
    return bytes;
}

void dbos_image_get_arguments(struct dbos_reader *reader, uint32_t count, uint8_t *to,
                              struct dbos_image_arguments *arguments) {
    arguments->count = 0;
    for (uint32_t i = 0; i < count && !reader->failed; i++) {
        struct stored_argument argument = get_argument(reader);
        to = put_datum(to, &argument);
        if (argument.form != FORM_VALUE) {
            note_nothing(arguments);
        } else if (is_integer(argument.type) || argument.type == DBOS_TYPE_FLOAT8) {
            note_number(arguments, argument.bits);
        } else {
            note_bytes(arguments, argument.bytes);
        }
    }
}

/* --- writing --------------------------------------------------------------------------------- */

struct image_writer {
    uint8_t *to;
    const struct dbos_image_arguments *arguments;
    struct dbos_bytes payload;
    struct dbos_bytes base;
    uint8_t run; /* STEP_LITERAL, STEP_ZERO or STEP_COPY, growing */
    size_t from; /* where the run began; all before it is written */
};

static void flush_long(struct image_writer *writer, const uint8_t *data, size_t count) {
    if (writer->run == STEP_ZERO) {
        for (; count > RUN_MAX; count -= RUN_MAX) {
            *writer->to++ = STEP_ZERO + RUN_MAX - 1;
        }
        *writer->to++ = (uint8_t)(STEP_ZERO + count - 1);
    } else if (writer->run == STEP_COPY) {
        *writer->to++ = STEP_COPY_LONG;
        writer->to = dbos_store_varint(writer->to, count);
    } else {
        *writer->to++ = STEP_LITERAL_LONG;
        writer->to = dbos_store_varint(writer->to, count);
        memcpy(writer->to, data, count);
        writer->to += count;
    }
}

/* The run up to `end`, which is not empty. */
static void write_run(struct image_writer *writer, size_t end) {
    size_t count = end - writer->from;
    const uint8_t *data = writer->payload.data + writer->from;
    writer->from = end;
    if (count > (writer->run == STEP_LITERAL ? LITERAL_MAX : RUN_MAX)) {
        flush_long(writer, data, count);
        return;
    }
    *writer->to++ = (uint8_t)(writer->run + count - 1);
    if (writer->run == STEP_LITERAL) {
        memcpy(writer->to, data, count);
        writer->to += count;
    }
}

static inline void flush_run(struct image_writer *writer, size_t end) {
    if (end != writer->from) {
        write_run(writer, end);
    }
}

/* The bytes from `at` on belong to a run of this kind. */
static void go_on(struct image_writer *writer, uint8_t run, size_t at) {
    if (writer->run != run) {
        flush_run(writer, at);
        writer->run = run;
    }
}

/* The `count` bytes at `at` are a step of their own, which is written now. */
static void step(struct image_writer *writer, size_t at, size_t count, unsigned code) {
    flush_run(writer, at);
    writer->from = at + count;
    *writer->to++ = (uint8_t)code;
}

static bool as_in_base(const struct image_writer *writer, size_t at, size_t count) {
    return at + count <= writer->base.size_bytes &&
           memcmp(writer->base.data + at, writer->payload.data + at, count) == 0;
}

static int64_t load_signed(const uint8_t *at, size_t width) {
    switch (width) {
    case 1:
        return (int8_t)*at;
    case 2:
        return (int16_t)dbos_load_u16(at);
    case 4:
        return (int32_t)dbos_load_u32(at);
    default:
        return (int64_t)dbos_load_u64(at);
    }
}

/* Which argument has these lower bytes; DBOS_IMAGE_ARGUMENTS: none. */
static uint32_t find_number(const struct dbos_image_arguments *arguments, uint64_t bits,
                            unsigned width_bits) {
    uint32_t count =
        arguments->count < DBOS_IMAGE_ARGUMENTS ? arguments->count : DBOS_IMAGE_ARGUMENTS;
    for (uint32_t i = 0; i < count; i++) {
        if (arguments->at[i].kind == DBOS_IMAGE_NUMBER &&
            (arguments->at[i].bits ^ bits) << (64 - width_bits) == 0) {
            return i;
        }
    }
    return DBOS_IMAGE_ARGUMENTS;
}

/* A column of fixed width, or an end offset. */
static void put_fixed(struct image_writer *writer, size_t at, unsigned log2_width) {
    size_t width = (size_t)1 << log2_width;
    if (as_in_base(writer, at, width)) {
        go_on(writer, STEP_COPY, at);
        return;
    }
    int64_t value = load_signed(writer->payload.data + at, width);
    if (value == 0) {
        go_on(writer, STEP_ZERO, at);
        return;
    }
    if (value > 0 && value <= SMALL_MAX) {
        step(writer, at, width, STEP_SMALL | log2_width << 4 | (unsigned)value);
        return;
    }
    uint32_t argument = find_number(writer->arguments, (uint64_t)value, (unsigned)width * 8);
    if (argument < DBOS_IMAGE_ARGUMENTS) {
        step(writer, at, width, STEP_ARG | log2_width << 4 | argument);
    } else if (varint_bytes(zigzag((uint64_t)value)) + 1 < width) {
        step(writer, at, width, STEP_INT + log2_width);
        writer->to = dbos_store_zigzag(writer->to, value);
    } else {
        go_on(writer, STEP_LITERAL, at);
    }
}

static uint32_t find_bytes(const struct dbos_image_arguments *arguments, struct dbos_bytes bytes) {
    uint32_t count =
        arguments->count < DBOS_IMAGE_ARGUMENTS ? arguments->count : DBOS_IMAGE_ARGUMENTS;
    for (uint32_t i = 0; i < count; i++) {
        if (arguments->at[i].kind == DBOS_IMAGE_BYTES &&
            arguments->at[i].bytes.size_bytes == bytes.size_bytes &&
            memcmp(arguments->at[i].bytes.data, bytes.data, bytes.size_bytes) == 0) {
            return i;
        }
    }
    return DBOS_IMAGE_ARGUMENTS;
}

/* The bytes of a variable column. */
static void put_variable(struct image_writer *writer, const struct dbos_table_def *def,
                         uint32_t column) {
    bool object;
    struct dbos_bytes bytes = dbos_payload_variable(def, writer->payload.data, column, &object);
    size_t at = (size_t)(bytes.data - writer->payload.data);
    if (bytes.size_bytes == 0) {
        return;
    }
    if (as_in_base(writer, at, bytes.size_bytes)) {
        go_on(writer, STEP_COPY, at);
        return;
    }
    uint32_t argument = find_bytes(writer->arguments, bytes);
    if (argument < DBOS_IMAGE_ARGUMENTS) {
        step(writer, at, bytes.size_bytes, STEP_ARG_BYTES | argument);
        return;
    }
    if (writer->base.size_bytes != 0 && bytes.size_bytes >= MOVE_BYTES_MIN) {
        struct dbos_bytes old = dbos_payload_variable(def, writer->base.data, column, &object);
        if (old.size_bytes == bytes.size_bytes &&
            memcmp(old.data, bytes.data, bytes.size_bytes) == 0) {
            step(writer, at, bytes.size_bytes, STEP_MOVE);
            writer->to = dbos_store_varint(writer->to, (size_t)(old.data - writer->base.data));
            writer->to = dbos_store_varint(writer->to, bytes.size_bytes);
            return;
        }
    }
    go_on(writer, STEP_LITERAL, at);
}

static unsigned log2_of_width(uint8_t type) {
    switch (dbos_type_length((enum dbos_type)type)) {
    case 1:
        return 0;
    case 2:
        return 1;
    case 4:
        return 2;
    default:
        return 3;
    }
}

static void put_null_bits(struct image_writer *writer, size_t count) {
    uint8_t any = 0;
    for (size_t i = 0; i < count; i++) {
        any = (uint8_t)(any | writer->payload.data[i]);
    }
    go_on(writer,
          as_in_base(writer, 0, count) ? STEP_COPY
          : any == 0                   ? STEP_ZERO
                                       : STEP_LITERAL,
          0);
}

static void put_columns(struct image_writer *writer, const struct dbos_table_def *def) {
    put_null_bits(writer, def->null_bytes);
    for (uint32_t i = 0; i < def->column_count; i++) {
        if (!dbos_type_is_bytes((enum dbos_type)def->columns[i].type)) {
            put_fixed(writer, def->null_bytes + def->offsets[i],
                      log2_of_width(def->columns[i].type));
        }
    }
    if (def->variable_count == 0) {
        return;
    }
    for (uint32_t i = 0; i < def->variable_count; i++) {
        put_fixed(writer, def->null_bytes + def->fixed_bytes + 4 * (size_t)i, 2);
    }
    for (uint32_t i = 0; i < def->column_count; i++) {
        if (dbos_type_is_bytes((enum dbos_type)def->columns[i].type)) {
            put_variable(writer, def, i);
        }
    }
}

uint8_t *dbos_image_put_row(uint8_t *to, const struct dbos_image_arguments *arguments,
                            const struct dbos_table_def *def, struct dbos_bytes payload,
                            struct dbos_bytes base) {
    struct image_writer writer = {
        .to = dbos_store_varint(to, payload.size_bytes),
        .arguments = arguments,
        .payload = payload,
        .base = base,
        .run = STEP_LITERAL,
    };
    if (def->column_count != 0) {
        put_columns(&writer, def);
    }
    flush_run(&writer, payload.size_bytes);
    return writer.to;
}

/* Numbers at the start of a key; what follows them is a literal. */
uint8_t *dbos_image_put_key(uint8_t *to, const struct dbos_image_arguments *arguments,
                            struct dbos_bytes key) {
    struct image_writer writer = {
        .to = dbos_store_varint(to, key.size_bytes),
        .arguments = arguments,
        .payload = key,
        .run = STEP_LITERAL,
    };
    size_t at = 0;
    while (at + KEY_NUMBER_BYTES <= key.size_bytes && key.data[at] == KEY_NUMBER) {
        uint64_t value = __builtin_bswap64(dbos_load_u64(key.data + at + 1)) ^ UINT64_C(1) << 63;
        uint32_t argument = find_number(arguments, value, 64);
        if (argument < KEY_ARGUMENTS) {
            step(&writer, at, KEY_NUMBER_BYTES, STEP_KEY_ARG | argument);
        } else if (varint_bytes(zigzag(value)) + 1 < KEY_NUMBER_BYTES) {
            step(&writer, at, KEY_NUMBER_BYTES, STEP_KEY_INT);
            writer.to = dbos_store_zigzag(writer.to, (int64_t)value);
        } else {
            break;
        }
        at += KEY_NUMBER_BYTES;
    }
    flush_run(&writer, key.size_bytes);
    return writer.to;
}

/* --- reading --------------------------------------------------------------------------------- */

bool dbos_image_size(struct dbos_reader *reader, struct dbos_bytes base, size_t *out_bytes) {
    uint64_t size_bytes = dbos_get_varint(reader);
    *out_bytes = 0;
    if (reader->failed || size_bytes > DBOS_RECORD_SIZE_MASK ||
        size_bytes > dbos_reader_left(reader) * DBOS_IMAGE_STEP_BYTES_MAX + 2 * base.size_bytes) {
        reader->failed = true;
        return false;
    }
    *out_bytes = (size_t)size_bytes;
    return true;
}

struct image_reader {
    struct dbos_reader *reader;
    const struct dbos_image_arguments *arguments;
    struct dbos_bytes base;
    uint8_t *to; /* NULL: nothing is written */
    size_t size_bytes;
    size_t made;
};

/* Room for `count` bytes more; false: they are too many. */
static bool make(struct image_reader *image, size_t count) {
    if (image->reader->failed || count > image->size_bytes - image->made) {
        image->reader->failed = true;
        return false;
    }
    return true;
}

static void make_bytes(struct image_reader *image, const uint8_t *data, size_t count) {
    if (make(image, count)) {
        if (image->to != NULL && count != 0) {
            memcpy(image->to + image->made, data, count);
        }
        image->made += count;
    }
}

static void make_base(struct image_reader *image, uint64_t at, uint64_t count) {
    if (count == 0 || at > image->base.size_bytes || count > image->base.size_bytes - at) {
        image->reader->failed = true;
        return;
    }
    /* Where nothing is written there is no base either, only its size. */
    make_bytes(image, image->to == NULL ? NULL : image->base.data + at, (size_t)count);
}

static void make_number(struct image_reader *image, uint64_t bits, size_t width) {
    uint8_t bytes[8];
    dbos_store_u64(bytes, bits);
    make_bytes(image, bytes, width);
}

static void make_key(struct image_reader *image, uint64_t value) {
    uint8_t bytes[KEY_NUMBER_BYTES] = {KEY_NUMBER};
    dbos_store_u64(bytes + 1, __builtin_bswap64(value ^ UINT64_C(1) << 63));
    make_bytes(image, bytes, sizeof bytes);
}

/* The argument that a step names; NULL: it is not there, or of another kind. */
static const struct dbos_bytes *argument_bytes(struct image_reader *image, uint32_t i) {
    const struct dbos_image_arguments *arguments = image->arguments;
    if (i >= arguments->count || arguments->at[i].kind != DBOS_IMAGE_BYTES) {
        image->reader->failed = true;
        return NULL;
    }
    return &arguments->at[i].bytes;
}

static uint64_t argument_bits(struct image_reader *image, uint32_t i) {
    const struct dbos_image_arguments *arguments = image->arguments;
    if (i >= arguments->count || arguments->at[i].kind != DBOS_IMAGE_NUMBER) {
        image->reader->failed = true;
        return 0;
    }
    return arguments->at[i].bits;
}

static void make_zeroes(struct image_reader *image, size_t count) {
    static const uint8_t zeroes[RUN_MAX];
    make_bytes(image, zeroes, count);
}

static void make_literal(struct image_reader *image, uint64_t count) {
    const uint8_t *data = dbos_get(image->reader, count > SIZE_MAX ? SIZE_MAX : (size_t)count);
    if (count == 0) {
        image->reader->failed = true; /* a step makes something, so that reading ends */
    } else if (data != NULL) {
        make_bytes(image, data, (size_t)count);
    }
}

/* Steps 0x60..0x7f. */
static void make_other(struct image_reader *image, uint8_t code) {
    struct dbos_reader *reader = image->reader;
    if (code < STEP_INT) {
        const struct dbos_bytes *bytes = argument_bytes(image, code & 0x0f);
        if (bytes != NULL) {
            make_bytes(image, bytes->data, bytes->size_bytes);
        }
    } else if (code < STEP_KEY_INT) {
        make_number(image, (uint64_t)dbos_get_zigzag(reader), (size_t)1 << (code & 3));
    } else if (code == STEP_KEY_INT) {
        make_key(image, (uint64_t)dbos_get_zigzag(reader));
    } else if (code == STEP_COPY_LONG) {
        make_base(image, image->made, dbos_get_varint(reader));
    } else if (code == STEP_MOVE) {
        uint64_t at = dbos_get_varint(reader);
        make_base(image, at, dbos_get_varint(reader));
    } else if (code >= STEP_KEY_ARG) {
        make_key(image, argument_bits(image, code & (KEY_ARGUMENTS - 1)));
    } else {
        reader->failed = true;
    }
}

void dbos_image_get(struct dbos_reader *reader, const struct dbos_image_arguments *arguments,
                    struct dbos_bytes base, uint8_t *to, size_t size_bytes) {
    struct image_reader image = {
        .reader = reader, .arguments = arguments, .base = base, .to = to, .size_bytes = size_bytes};
    while (!reader->failed && image.made < size_bytes) {
        uint8_t code = dbos_get_u8(reader);
        if (code >= STEP_SMALL) {
            make_number(&image, code & 0x0f, (size_t)1 << (code >> 4 & 3));
        } else if (code >= STEP_ARG) {
            make_number(&image, argument_bits(&image, code & 0x0f), (size_t)1 << (code >> 4 & 3));
        } else if (code >= STEP_ARG_BYTES) {
            make_other(&image, code);
        } else if (code >= STEP_COPY) {
            make_base(&image, image.made, (uint64_t)code - STEP_COPY + 1);
        } else if (code >= STEP_ZERO) {
            make_zeroes(&image, (size_t)code - STEP_ZERO + 1);
        } else {
            make_literal(&image,
                         code == STEP_LITERAL_LONG ? dbos_get_varint(reader) : (uint64_t)code + 1);
        }
    }
}
