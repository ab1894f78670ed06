/* weights/pth_pickle.c - a pickle interpreter that can only build values.
 *
 * Two tables are the whole of what it may do: GLOBALS names the classes and functions a state dict mentions (each stands
 * for a few lines here, none is called), the switch in `step` the opcodes. A name or opcode outside them ends the
 * reading. Every size is bounded by the pickle's own length and by the limits below; nothing recurses.
 * Opcodes: Python's Lib/pickletools.py documents them. */
#include "weights/pth_pickle.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

enum { MAX_MARKS = 1000, MAX_NAME = 256, CHUNK_BYTES = 64 << 10 };
static const size_t MAX_PICKLE_BYTES = 64u << 20;
static const size_t MAX_VALUES = 4u << 20;
static const size_t MAX_MEMO = 1u << 20;
static const size_t MAX_STACK = 1u << 20;
static const size_t MAX_ARENA_BYTES = 128u << 20;

enum global_kind { A_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, A_STORAGE };

static const struct global {
    const char *module, *name;
    enum global_kind kind;
    tsr__dtype dtype; /* of a storage */
} GLOBALS[] = {
    { "collections", "OrderedDict", A_DICT, TSR_DTYPE_COUNT_ },
    { "torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR, TSR_DTYPE_COUNT_ },
    { "torch._utils", "_rebuild_parameter", REBUILD_PARAMETER, TSR_DTYPE_COUNT_ },
    { "torch", "FloatStorage", A_STORAGE, TSR_DTYPE_F32 },
    { "torch", "HalfStorage", A_STORAGE, TSR_DTYPE_F16 },
    { "torch", "BFloat16Storage", A_STORAGE, TSR_DTYPE_BF16 },
    { "torch", "DoubleStorage", A_STORAGE, TSR_DTYPE_F64 },
    { "torch", "LongStorage", A_STORAGE, TSR_DTYPE_I64 },
    { "torch", "IntStorage", A_STORAGE, TSR_DTYPE_I32 },
    { "torch", "ShortStorage", A_STORAGE, TSR_DTYPE_I16 },
    { "torch", "CharStorage", A_STORAGE, TSR_DTYPE_I8 },
    { "torch", "ByteStorage", A_STORAGE, TSR_DTYPE_U8 },
    { "torch", "BoolStorage", A_STORAGE, TSR_DTYPE_BOOL },
    { "torch.storage", "UntypedStorage", A_STORAGE, TSR_DTYPE_U8 },
};

typedef struct chunk {
    struct chunk *next;
} chunk;

struct tsr__pickle {
    const char *path;
    chunk *chunks;      /* every value and array, released together */
    unsigned char *top; /* free bytes of the newest chunk */
    size_t left, taken; /* bytes of that chunk, bytes of all */
    size_t values;
    const tsr__pickle_value *storages; /* chained by u.storage.next */
    /* of the pickle being read */
    const unsigned char *data;
    size_t size, at;
    tsr__pickle_value **stack, **memo;
    size_t stack_count, stack_room, memo_count /* next index of MEMOIZE */, memo_room;
    size_t marks[MAX_MARKS]; /* heights of the stack */
    int mark_count;
};

typedef tsr__pickle_value value;

/* --- memory --- */

static tsr_status arena_take(tsr__pickle *p, void **out, size_t bytes, tsr_error *err) {
    *out = NULL;
    bytes = (bytes + 15) / 16 * 16;
    if (!p->top || bytes > p->left) {
        size_t room = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        if (room > MAX_ARENA_BYTES - p->taken) /* a copied list costs a few bytes of pickle: bound what they make */
            return tsr__fail(err, TSR_TOO_LARGE, "%s: its pickle unfolds to more than 128 MiB", p->path);
        chunk *fresh = tsr__alloc(1, room + 64);
        if (!fresh) return tsr__fail(err, TSR_NO_MEMORY, "out of memory (%zu bytes)", room);
        fresh->next = p->chunks;
        p->chunks = fresh;
        p->taken += room;
        p->top = (unsigned char *)fresh + 64;
        p->left = room;
    }
    *out = p->top;
    p->top += bytes;
    p->left -= bytes;
    return TSR_OK;
}

static tsr_status fail_at(const tsr__pickle *p, tsr_error *err, const char *what) {
    return tsr__fail(err, TSR_BAD_FORMAT, "%s: bad pickle at byte %zu: %s", p->path, p->at, what);
}

static tsr_status new_value(tsr__pickle *p, value **out, tsr__pickle_kind kind, tsr_error *err) {
    *out = NULL;
    if (p->values >= MAX_VALUES)
        return tsr__fail(err, TSR_TOO_LARGE, "%s: its pickle makes more than %zu values", p->path, MAX_VALUES);
    void *room;
    tsr_status status = arena_take(p, &room, sizeof(value), err);
    if (!room) return status != TSR_OK ? status : TSR_NO_MEMORY; /* never OK: spelled out for analysers */
    value *fresh = room;
    p->values++;
    memset(fresh, 0, sizeof *fresh);
    fresh->kind = kind;
    *out = fresh;
    return TSR_OK;
}

static tsr_status append_item(tsr__pickle *p, value *list, value *item, tsr_error *err) {
    if (list->u.items.count == list->u.items.room) {
        size_t room = list->u.items.room ? list->u.items.room * 2 : 4;
        void *grown;
        tsr_status status = arena_take(p, &grown, room * sizeof(value *), err);
        if (!grown) return status;
        if (list->u.items.count > 0)
            memcpy(grown, (const void *)list->u.items.at, list->u.items.count * sizeof(value *));
        list->u.items.at = grown;
        list->u.items.room = room;
    }
    list->u.items.at[list->u.items.count++] = item;
    return TSR_OK;
}

/* Makes room for index `need` - 1 in one of the reader's two arrays. */
static tsr_status grow(value ***array, size_t *room, size_t need, tsr_error *err) {
    if (need <= *room) return TSR_OK;
    size_t more = *room ? *room : 256;
    while (more < need) more *= 2;
    value **grown = realloc((void *)*array, more * sizeof(value *));
    if (!grown) return tsr__fail(err, TSR_NO_MEMORY, "out of memory (%zu values)", more);
    memset((void *)(grown + *room), 0, (more - *room) * sizeof(value *));
    *array = grown;
    *room = more;
    return TSR_OK;
}

/* --- stack and memo --- */

static tsr_status push(tsr__pickle *p, value *item, tsr_error *err) {
    if (p->stack_count >= MAX_STACK)
        return tsr__fail(err, TSR_TOO_LARGE, "%s: its pickle stacks more than %zu values", p->path, MAX_STACK);
    tsr_status status = grow(&p->stack, &p->stack_room, p->stack_count + 1, err);
    if (status == TSR_OK) p->stack[p->stack_count++] = item;
    return status;
}

/* How many values lie above the last mark. */
static size_t above_mark(const tsr__pickle *p) {
    return p->stack_count - (p->mark_count > 0 ? p->marks[p->mark_count - 1] : 0);
}

static tsr_status pop(tsr__pickle *p, value **out, tsr_error *err) {
    *out = NULL;
    if (above_mark(p) == 0) return fail_at(p, err, "its stack is empty");
    *out = p->stack[--p->stack_count];
    return TSR_OK;
}

/* Everything above the last mark, which goes too; the items stay readable until the next push. */
static tsr_status pop_mark(tsr__pickle *p, value ***items, size_t *count, tsr_error *err) {
    *items = NULL;
    *count = 0;
    if (p->mark_count == 0) return fail_at(p, err, "no mark is open");
    size_t height = p->marks[--p->mark_count];
    if (p->stack) { /* else nothing was pushed yet */
        *items = p->stack + height;
        *count = p->stack_count - height;
    }
    p->stack_count = height;
    return TSR_OK;
}

static tsr_status memo_put(tsr__pickle *p, size_t index, tsr_error *err) {
    if (above_mark(p) == 0) return fail_at(p, err, "nothing to remember");
    if (index >= MAX_MEMO)
        return tsr__fail(err, TSR_TOO_LARGE, "%s: its pickle remembers more than %zu values", p->path, MAX_MEMO);
    tsr_status status = grow(&p->memo, &p->memo_room, index + 1, err);
    if (status != TSR_OK) return status;
    p->memo[index] = p->stack[p->stack_count - 1];
    if (index >= p->memo_count) p->memo_count = index + 1;
    return TSR_OK;
}

static tsr_status memo_get(tsr__pickle *p, size_t index, tsr_error *err) {
    if (index >= p->memo_count || !p->memo[index]) return fail_at(p, err, "asks for a value it never stored");
    return push(p, p->memo[index], err);
}

/* --- reading bytes --- */

static tsr_status take(tsr__pickle *p, const unsigned char **out, uint64_t count, tsr_error *err) {
    *out = NULL;
    if (count > p->size - p->at) return fail_at(p, err, "it ends too early");
    *out = p->data + p->at;
    p->at += (size_t)count;
    return TSR_OK;
}

static tsr_status take_number(tsr__pickle *p, uint64_t *out, int bytes, tsr_error *err) {
    const unsigned char *raw;
    *out = 0;
    tsr_status status = take(p, &raw, (uint64_t)bytes, err);
    for (int i = bytes - 1; status == TSR_OK && i >= 0; i--) *out = *out << 8 | raw[i];
    return status;
}

/* Up to and without the newline. */
static tsr_status take_line(tsr__pickle *p, const char **text, size_t *length, tsr_error *err) {
    const unsigned char *begin = p->data + p->at, *end = memchr(begin, '\n', p->size - p->at);
    if (!end) return fail_at(p, err, "a name has no end");
    *text = (const char *)begin;
    *length = (size_t)(end - begin);
    p->at += *length + 1;
    return TSR_OK;
}

static tsr_status push_int(tsr__pickle *p, tsr__pickle_kind kind, int64_t integer, tsr_error *err) {
    value *fresh;
    tsr_status status = new_value(p, &fresh, kind, err);
    if (status != TSR_OK) return status;
    fresh->u.integer = integer;
    return push(p, fresh, err);
}

static tsr_status push_bytes(tsr__pickle *p, tsr__pickle_kind kind, int length_bytes, tsr_error *err) {
    tsr_status status = TSR_OK;
    uint64_t length;
    const unsigned char *raw;
    value *fresh;
    TSR_TRY(take_number(p, &length, length_bytes, err));
    TSR_TRY(take(p, &raw, length, err));
    TSR_TRY(new_value(p, &fresh, kind, err));
    fresh->u.bytes.text = (const char *)raw;
    fresh->u.bytes.length = (size_t)length;
    TSR_TRY(push(p, fresh, err));
done:
    return status;
}

/* LONG1, LONG4: two's complement, little-endian, of any length. */
static tsr_status push_long(tsr__pickle *p, int length_bytes, tsr_error *err) {
    tsr_status status = push_bytes(p, TSR__PICKLE_BIG_INT, length_bytes, err);
    if (status != TSR_OK) return status;
    value *fresh = p->stack[p->stack_count - 1];
    const unsigned char *raw = (const unsigned char *)fresh->u.bytes.text;
    const size_t length = fresh->u.bytes.length;
    if (length > 8) return TSR_OK;
    uint64_t bits = length > 0 && raw[length - 1] >= 0x80 ? UINT64_MAX : 0;
    for (size_t i = length; i-- > 0;) bits = bits << 8 | raw[i];
    fresh->kind = TSR__PICKLE_INT;
    memcpy(&fresh->u.integer, &bits, sizeof bits);
    return TSR_OK;
}

static tsr_status push_float(tsr__pickle *p, tsr_error *err) {
    tsr_status status = TSR_OK;
    const unsigned char *raw;
    value *fresh;
    uint64_t bits = 0;
    TSR_TRY(take(p, &raw, 8, err));
    for (int i = 0; i < 8; i++) bits = bits << 8 | raw[i]; /* big-endian, alone among the opcodes */
    TSR_TRY(new_value(p, &fresh, TSR__PICKLE_FLOAT, err));
    memcpy(&fresh->u.real, &bits, sizeof bits);
    TSR_TRY(push(p, fresh, err));
done:
    return status;
}

/* --- globals --- */

static int same_text(const char *text, size_t length, const char *word) {
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

/* For messages: at most MAX_NAME bytes, what does not print as '?'. */
static void printable(char out[MAX_NAME + 1], const char *text, size_t length) {
    size_t count = length < MAX_NAME ? length : MAX_NAME;
    for (size_t i = 0; i < count; i++) out[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    out[count] = '\0';
}

static tsr_status push_global(tsr__pickle *p, const char *module, size_t module_length, const char *name,
                              size_t name_length, tsr_error *err) {
    for (size_t i = 0; i < sizeof GLOBALS / sizeof *GLOBALS; i++) {
        if (same_text(module, module_length, GLOBALS[i].module) && same_text(name, name_length, GLOBALS[i].name))
            return push_int(p, TSR__PICKLE_GLOBAL, (int64_t)i, err);
    }
    char shown_module[MAX_NAME + 1], shown_name[MAX_NAME + 1];
    printable(shown_module, module, module_length);
    printable(shown_name, name, name_length);
    return tsr__fail(err, TSR_UNSUPPORTED, "%s: refuses to run %s.%s from a pickle", p->path, shown_module, shown_name);
}

static tsr_status do_global(tsr__pickle *p, tsr_error *err) {
    const char *module = NULL, *name = NULL;
    size_t module_length = 0, name_length = 0;
    tsr_status status = take_line(p, &module, &module_length, err);
    if (status == TSR_OK) status = take_line(p, &name, &name_length, err);
    if (status != TSR_OK) return status;
    return push_global(p, module, module_length, name, name_length, err);
}

static tsr_status do_stack_global(tsr__pickle *p, tsr_error *err) {
    value *name, *module;
    tsr_status status = pop(p, &name, err);
    if (status == TSR_OK) status = pop(p, &module, err);
    if (status != TSR_OK) return status;
    if (name->kind != TSR__PICKLE_TEXT || module->kind != TSR__PICKLE_TEXT)
        return fail_at(p, err, "a global's name is no text");
    return push_global(p, module->u.bytes.text, module->u.bytes.length, name->u.bytes.text, name->u.bytes.length, err);
}

/* --- what the allowed globals stand for --- */

/* OrderedDict(), or as Python 2 wrote it OrderedDict([[key, value], ...]). */
static tsr_status make_dict(tsr__pickle *p, const value *args, tsr_error *err) {
    value *dict;
    tsr_status status = new_value(p, &dict, TSR__PICKLE_DICT, err);
    if (status != TSR_OK) return status;
    if (args->u.items.count > 1) return fail_at(p, err, "OrderedDict takes one list of pairs");
    const value *pairs = args->u.items.count ? args->u.items.at[0] : NULL;
    if (pairs && pairs->kind != TSR__PICKLE_LIST) return fail_at(p, err, "OrderedDict takes one list of pairs");
    for (size_t i = 0; pairs && i < pairs->u.items.count; i++) {
        const value *pair = pairs->u.items.at[i];
        if ((pair->kind != TSR__PICKLE_LIST && pair->kind != TSR__PICKLE_TUPLE) || pair->u.items.count != 2)
            return fail_at(p, err, "OrderedDict takes one list of pairs");
        status = append_item(p, dict, pair->u.items.at[0], err);
        if (status == TSR_OK) status = append_item(p, dict, pair->u.items.at[1], err);
        if (status != TSR_OK) return status;
    }
    return push(p, dict, err);
}

static int is_index_tuple(const value *tuple) {
    if (tuple->kind != TSR__PICKLE_TUPLE || tuple->u.items.count > TSR__PICKLE_MAX_RANK) return 0;
    for (size_t i = 0; i < tuple->u.items.count; i++) {
        const value *item = tuple->u.items.at[i];
        if (item->kind != TSR__PICKLE_INT || item->u.integer < 0) return 0;
    }
    return 1;
}

/* _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, backward_hooks[, metadata]). */
static tsr_status make_tensor(tsr__pickle *p, const value *args, tsr_error *err) {
    value *const *arg = args->u.items.at;
    const size_t count = args->u.items.count;
    if (count != 6 && count != 7) return fail_at(p, err, "a tensor is rebuilt from 6 or 7 values");
    if (arg[0]->kind != TSR__PICKLE_STORAGE) return fail_at(p, err, "a tensor without a storage");
    if (arg[1]->kind != TSR__PICKLE_INT || arg[1]->u.integer < 0 || !is_index_tuple(arg[2]) ||
        !is_index_tuple(arg[3]) || arg[2]->u.items.count != arg[3]->u.items.count)
        return fail_at(p, err, "a tensor whose offset, shape or strides are no counts (at most 8 axes)");
    value *tensor;
    tsr_status status = new_value(p, &tensor, TSR__PICKLE_TENSOR, err);
    if (status != TSR_OK) return status;
    tensor->u.tensor.storage = arg[0];
    tensor->u.tensor.offset = arg[1]->u.integer;
    tensor->u.tensor.rank = (int)arg[2]->u.items.count;
    tensor->u.tensor.shape = arg[2];
    tensor->u.tensor.strides = arg[3];
    return push(p, tensor, err);
}

static tsr_status do_reduce(tsr__pickle *p, tsr_error *err) {
    value *args, *callee;
    tsr_status status = pop(p, &args, err);
    if (status == TSR_OK) status = pop(p, &callee, err);
    if (status != TSR_OK) return status;
    if (callee->kind != TSR__PICKLE_GLOBAL || args->kind != TSR__PICKLE_TUPLE)
        return fail_at(p, err, "calls what is no function");
    const struct global *global = &GLOBALS[callee->u.integer];
    switch (global->kind) {
    case A_DICT: return make_dict(p, args, err);
    case REBUILD_TENSOR: return make_tensor(p, args, err);
    case REBUILD_PARAMETER: /* (tensor, requires_grad, backward_hooks) */
        if (args->u.items.count != 3 || args->u.items.at[0]->kind != TSR__PICKLE_TENSOR)
            return fail_at(p, err, "a parameter without a tensor");
        return push(p, args->u.items.at[0], err);
    case A_STORAGE: break;
    }
    return tsr__fail(err, TSR_UNSUPPORTED, "%s: refuses to run %s.%s() from a pickle", p->path, global->module,
                     global->name);
}

/* BUILD sets attributes; a dict's (_metadata) are not needed, nothing else may have any. */
static tsr_status do_build(tsr__pickle *p, tsr_error *err) {
    value *attributes;
    tsr_status status = pop(p, &attributes, err);
    if (status != TSR_OK) return status;
    if (above_mark(p) == 0 || p->stack[p->stack_count - 1]->kind != TSR__PICKLE_DICT)
        return fail_at(p, err, "sets attributes of what is no dict");
    return TSR_OK;
}

/* ("storage", class, key, location, count[, view]), view being None. */
static tsr_status do_persistent(tsr__pickle *p, tsr_error *err) {
    value *id, *storage;
    tsr_status status = pop(p, &id, err);
    if (status != TSR_OK) return status;
    value *const *part = id->kind == TSR__PICKLE_TUPLE ? id->u.items.at : NULL;
    const size_t count = part ? id->u.items.count : 0;
    if (count < 5 || count > 6 || !tsr__pickle_is_text(part[0], "storage") || part[1]->kind != TSR__PICKLE_GLOBAL ||
        GLOBALS[part[1]->u.integer].kind != A_STORAGE || part[2]->kind != TSR__PICKLE_TEXT ||
        part[4]->kind != TSR__PICKLE_INT || part[4]->u.integer < 0)
        return fail_at(p, err, "names a storage in a way PyTorch does not");
    if (count == 6 && part[5]->kind != TSR__PICKLE_NONE)
        return tsr__fail(err, TSR_UNSUPPORTED,
                         "%s: has storages inside storages (PyTorch before 0.4); save it again with a newer PyTorch",
                         p->path);
    status = new_value(p, &storage, TSR__PICKLE_STORAGE, err);
    if (status != TSR_OK) return status;
    storage->u.storage.dtype = GLOBALS[part[1]->u.integer].dtype;
    storage->u.storage.key = part[2]->u.bytes.text;
    storage->u.storage.key_length = part[2]->u.bytes.length;
    storage->u.storage.count = part[4]->u.integer;
    storage->u.storage.next = p->storages;
    p->storages = storage;
    return push(p, storage, err);
}

/* --- containers --- */

static tsr_status push_container(tsr__pickle *p, tsr__pickle_kind kind, value *const *items, size_t count,
                                 tsr_error *err) {
    value *fresh;
    tsr_status status = new_value(p, &fresh, kind, err);
    if (status != TSR_OK) return status;
    if (kind == TSR__PICKLE_DICT && count % 2) return fail_at(p, err, "a key without a value");
    if (count > 0) {
        void *room;
        status = arena_take(p, &room, count * sizeof(value *), err);
        if (!room) return status;
        memcpy(room, (const void *)items, count * sizeof(value *));
        fresh->u.items.at = room;
    }
    fresh->u.items.count = fresh->u.items.room = count;
    return push(p, fresh, err);
}

static tsr_status push_marked(tsr__pickle *p, tsr__pickle_kind kind, tsr_error *err) {
    value **items;
    size_t count;
    tsr_status status = pop_mark(p, &items, &count, err);
    return status == TSR_OK ? push_container(p, kind, items, count, err) : status;
}

static tsr_status push_short_tuple(tsr__pickle *p, size_t count, tsr_error *err) {
    if (above_mark(p) < count) return fail_at(p, err, "its stack is empty");
    p->stack_count -= count;
    return push_container(p, TSR__PICKLE_TUPLE, p->stack + p->stack_count, count, err);
}

/* Adds the values to the list or dict on top of the stack. */
static tsr_status add_items(tsr__pickle *p, tsr__pickle_kind kind, value *const *items, size_t count, tsr_error *err) {
    value *target = above_mark(p) > 0 ? p->stack[p->stack_count - 1] : NULL;
    if (!target || target->kind != kind) return fail_at(p, err, "adds items to what is no container");
    if (kind == TSR__PICKLE_DICT && count % 2) return fail_at(p, err, "a key without a value");
    tsr_status status = TSR_OK;
    for (size_t i = 0; i < count && status == TSR_OK; i++) status = append_item(p, target, items[i], err);
    return status;
}

static tsr_status add_marked(tsr__pickle *p, tsr__pickle_kind kind, tsr_error *err) {
    value **items;
    size_t count;
    tsr_status status = pop_mark(p, &items, &count, err);
    return status == TSR_OK ? add_items(p, kind, items, count, err) : status;
}

static tsr_status add_last(tsr__pickle *p, tsr__pickle_kind kind, size_t count, tsr_error *err) {
    if (above_mark(p) < count) return fail_at(p, err, "its stack is empty");
    p->stack_count -= count;
    return add_items(p, kind, p->stack + p->stack_count, count, err);
}

/* --- the interpreter --- */

static tsr_status do_memo(tsr__pickle *p, int op, tsr_error *err) {
    uint64_t index = 0;
    tsr_status status = TSR_OK;
    if (op != 0x94) status = take_number(p, &index, op == 'q' || op == 'h' ? 1 : 4, err);
    if (status != TSR_OK) return status;
    if (op == 0x94) index = p->memo_count; /* MEMOIZE */
    return op == 'h' || op == 'j' ? memo_get(p, (size_t)index, err) : memo_put(p, (size_t)index, err);
}

static tsr_status push_number(tsr__pickle *p, int bytes, tsr_error *err) {
    uint64_t bits;
    tsr_status status = take_number(p, &bits, bytes, err);
    if (status != TSR_OK) return status;
    const int64_t integer = bytes == 4 ? (int64_t)(int32_t)(uint32_t)bits : (int64_t)bits; /* BININT alone has a sign */
    return push_int(p, TSR__PICKLE_INT, integer, err);
}

static tsr_status do_protocol(tsr__pickle *p, tsr_error *err) {
    uint64_t protocol;
    tsr_status status = take_number(p, &protocol, 1, err);
    if (status == TSR_OK && (protocol < 2 || protocol > 5)) status = fail_at(p, err, "its protocol is not 2 to 5");
    return status;
}

static tsr_status do_mark(tsr__pickle *p, tsr_error *err) {
    if (p->mark_count >= MAX_MARKS)
        return tsr__fail(err, TSR_TOO_LARGE, "%s: its pickle nests deeper than %d", p->path, MAX_MARKS);
    p->marks[p->mark_count++] = p->stack_count;
    return TSR_OK;
}

static tsr_status do_pop(tsr__pickle *p, int to_mark, tsr_error *err) {
    value *gone, **items;
    size_t count;
    return to_mark ? pop_mark(p, &items, &count, err) : pop(p, &gone, err);
}

/* INST names a class and makes an object of it: whatever it names, no state dict does. */
static tsr_status refuse_inst(tsr__pickle *p, tsr_error *err) {
    tsr_status status = do_global(p, err);
    return status == TSR_OK ? fail_at(p, err, "makes an object no state dict needs") : status;
}

static tsr_status refuse_opcode(const tsr__pickle *p, int op, tsr_error *err) {
    return tsr__fail(err, TSR_UNSUPPORTED, "%s: pickle opcode 0x%02x at byte %zu is none that a state dict needs",
                     p->path, (unsigned)op, p->at - 1);
}

/* Everything but STOP. */
static tsr_status step(tsr__pickle *p, int op, tsr_error *err) {
    uint64_t ignored;
    switch (op) {
    case 0x80: return do_protocol(p, err);
    case 0x95: return take_number(p, &ignored, 8, err); /* FRAME: only a hint for reading ahead */
    case '(': return do_mark(p, err);
    case '0': return do_pop(p, 0, err);
    case '1': return do_pop(p, 1, err);
    case 'N': return push_int(p, TSR__PICKLE_NONE, 0, err);
    case 0x88: return push_int(p, TSR__PICKLE_BOOL, 1, err);
    case 0x89: return push_int(p, TSR__PICKLE_BOOL, 0, err);
    case 'K': return push_number(p, 1, err);
    case 'M': return push_number(p, 2, err);
    case 'J': return push_number(p, 4, err);
    case 0x8a: return push_long(p, 1, err);
    case 0x8b: return push_long(p, 4, err);
    case 'G': return push_float(p, err);
    case 0x8c: return push_bytes(p, TSR__PICKLE_TEXT, 1, err);
    case 'X': return push_bytes(p, TSR__PICKLE_TEXT, 4, err);
    case 0x8d: return push_bytes(p, TSR__PICKLE_TEXT, 8, err);
    case 'U': return push_bytes(p, TSR__PICKLE_TEXT, 1, err); /* Python 2's str */
    case 'T': return push_bytes(p, TSR__PICKLE_TEXT, 4, err);
    case 'C': return push_bytes(p, TSR__PICKLE_BYTES, 1, err);
    case 'B': return push_bytes(p, TSR__PICKLE_BYTES, 4, err);
    case ')': return push_container(p, TSR__PICKLE_TUPLE, NULL, 0, err);
    case ']': return push_container(p, TSR__PICKLE_LIST, NULL, 0, err);
    case '}': return push_container(p, TSR__PICKLE_DICT, NULL, 0, err);
    case 't': return push_marked(p, TSR__PICKLE_TUPLE, err);
    case 'l': return push_marked(p, TSR__PICKLE_LIST, err);
    case 'd': return push_marked(p, TSR__PICKLE_DICT, err);
    case 0x85: return push_short_tuple(p, 1, err);
    case 0x86: return push_short_tuple(p, 2, err);
    case 0x87: return push_short_tuple(p, 3, err);
    case 'a': return add_last(p, TSR__PICKLE_LIST, 1, err);
    case 'e': return add_marked(p, TSR__PICKLE_LIST, err);
    case 's': return add_last(p, TSR__PICKLE_DICT, 2, err);
    case 'u': return add_marked(p, TSR__PICKLE_DICT, err);
    case 'q':
    case 'r':
    case 'h':
    case 'j':
    case 0x94: return do_memo(p, op, err);
    case 'c': return do_global(p, err);
    case 0x93: return do_stack_global(p, err);
    case 'i': return refuse_inst(p, err);
    case 'R': return do_reduce(p, err);
    case 'b': return do_build(p, err);
    case 'Q': return do_persistent(p, err);
    default: return refuse_opcode(p, op, err);
    }
}

tsr_status tsr__pickle_new(tsr__pickle **out, const char *path, tsr_error *err) {
    *out = tsr__alloc_zero(1, sizeof **out);
    if (!*out) return tsr__fail(err, TSR_NO_MEMORY, "out of memory (%zu bytes)", sizeof **out);
    (*out)->path = path;
    return TSR_OK;
}

void tsr__pickle_free(tsr__pickle *pickle) {
    if (!pickle) return;
    for (chunk *at = pickle->chunks; at;) {
        chunk *next = at->next;
        free(at);
        at = next;
    }
    free((void *)pickle->stack);
    free((void *)pickle->memo);
    free(pickle);
}

tsr_status tsr__pickle_read(tsr__pickle *p, const tsr__pickle_value **root, const unsigned char *data, size_t size,
                            size_t *used, tsr_error *err) {
    tsr_status status = TSR_OK;
    value *result;
    *root = NULL;
    p->data = data;
    p->size = size;
    p->at = p->stack_count = p->memo_count = 0;
    p->mark_count = 0;
    if (p->memo_room > 0) memset((void *)p->memo, 0, p->memo_room * sizeof(value *));
    for (;;) {
        const unsigned char *op;
        if (p->at > MAX_PICKLE_BYTES)
            TSR_FAIL(err, TSR_TOO_LARGE, "%s: its pickle is over the limit of 64 MiB", p->path);
        TSR_TRY(take(p, &op, 1, err));
        if (*op == '.') break;
        TSR_TRY(step(p, *op, err));
    }
    TSR_TRY(pop(p, &result, err));
    if (p->stack_count > 0 || p->mark_count > 0)
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: bad pickle: values are left over", p->path);
    *root = result;
    *used = p->at;
done:
    return status;
}

const tsr__pickle_value *tsr__pickle_storages(const tsr__pickle *pickle) {
    return pickle->storages;
}

int tsr__pickle_is_text(const tsr__pickle_value *item, const char *text) {
    return item->kind == TSR__PICKLE_TEXT && same_text(item->u.bytes.text, item->u.bytes.length, text);
}

const tsr__pickle_value *tsr__pickle_get(const tsr__pickle_value *dict, const char *key) {
    if (dict->kind != TSR__PICKLE_DICT) return NULL;
    for (size_t i = dict->u.items.count; i >= 2; i -= 2) { /* from the end: a later value replaces an earlier one */
        if (tsr__pickle_is_text(dict->u.items.at[i - 2], key)) return dict->u.items.at[i - 1];
    }
    return NULL;
}
