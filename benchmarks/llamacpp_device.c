// Devices that compute nothing, for llamacpp_offload.py: llama.cpp places layers on them, and its scheduler cuts the
// graph as for CUDA, whose offload_op and alignment they have. The structs are those of ggml-backend-impl.h, API 3.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4, ALIGNMENT = 128, OFFLOAD_FROM = 32, BUFFER_TYPE_AT = 11 };
struct tensor { int type; void * buffer; int64_t ne[4]; size_t nb[4]; int op; };
struct buft { void * f[8]; void * device; void * context; };
struct device { void * f[15]; void * reg; void * context; };
struct reg { int version; void * f[4]; void * context; };
struct props { const char * name, * description; size_t free, total; int type; const char * id; bool caps[5]; };

static struct buft bufts[MOST];
static struct device devices[MOST];
static struct reg reg;
static char names[MOST][16];
static void * (*cpu_init)(void);
static size_t (*nbytes)(const void *);
static int64_t (*nrows)(const void *);
static const char * (*op_name)(int);
static void * (*from_ptr)(void *, size_t);
static const size_t memory = (size_t) 80 << 30;
static bool overlaps;
static int device_at = -1;

static int of(struct device * d) { return (int) (d - devices); }
static const char * buft_name(struct buft * b) { return names[b - bufts]; }
static void * buft_alloc(struct buft * b, size_t size) {
    void * p = NULL;
    if (posix_memalign(&p, ALIGNMENT, size + ALIGNMENT)) return NULL;
    void ** buffer = from_ptr(p, size);
    buffer[BUFFER_TYPE_AT] = b;
    return buffer;
}
static size_t buft_align(struct buft * b) { return ALIGNMENT; }
static size_t buft_size(struct buft * b, const struct tensor * t) { return nbytes(t); }
static const char * dev_name(struct device * d) { return names[of(d)]; }
static void dev_memory(struct device * d, size_t * free, size_t * total) { *free = *total = memory; }
static int dev_type(struct device * d) { return 1; }
static void dev_props(struct device * d, struct props * p) {
    memset(p, 0, sizeof *p);
    p->name = p->description = dev_name(d);
    p->free = p->total = memory;
    p->type = 1;
    p->caps[0] = p->caps[3] = overlaps; // asynchronous, events
}
static void * dev_init(struct device * d, const char * params) {
    void ** backend = cpu_init();
    backend[device_at] = d;
    return backend;
}
static struct buft * dev_buft(struct device * d) { return &bufts[of(d)]; }
static bool dev_supports_op(struct device * d, const struct tensor * t) { return true; }
static bool dev_supports_buft(struct device * d, struct buft * b) { return b == dev_buft(d); }
static bool dev_offload(struct device * d, const struct tensor * t) {
    const char * n = op_name(t->op);
    if (!strcmp(n, "GET_ROWS")) return false;
    if (!strcmp(n, "MUL_MAT")) return t->ne[1] >= OFFLOAD_FROM;
    if (!strcmp(n, "MUL_MAT_ID") || !strcmp(n, "ROPE")) return t->ne[2] >= OFFLOAD_FROM;
    return nrows(t) >= OFFLOAD_FROM;
}
static const char * reg_name(struct reg * r) { return "NONE"; }
static size_t reg_count(struct reg * r) { return 0; }
static void * reg_get(struct reg * r, size_t i) { return NULL; }
static void * reg_proc(struct reg * r, const char * n) { return NULL; }

// n devices; f: ggml_backend_cpu_init, ggml_nbytes, ggml_nrows, ggml_op_name, ggml_backend_cpu_buffer_from_ptr,
// ggml_backend_device_register; cpu: the device of the host, whose place in a backend's struct is looked for
void setup(void ** f, int n, bool async, void * cpu) {
    cpu_init = f[0]; nbytes = f[1]; nrows = f[2]; op_name = f[3]; from_ptr = f[4];
    void (*device_register)(void *) = f[5];
    overlaps = async;
    void ** backend = cpu_init();
    for (int i = 0; i < 24 && device_at < 0; i++) if (backend[i] == cpu) device_at = i;
    void * r[4] = {reg_name, reg_count, reg_get, reg_proc};
    reg.version = 3;
    memcpy(reg.f, r, sizeof r);
    for (int i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "device %d", i);
        void * b[8] = {buft_name, buft_alloc, NULL, buft_align, NULL, buft_size, NULL, NULL};
        void * d[15] = {dev_name, dev_name, dev_memory, dev_type, dev_props, dev_init, dev_buft, NULL, NULL,
                        dev_supports_op, dev_supports_buft, dev_offload, NULL, NULL, NULL};
        memcpy(bufts[i].f, b, sizeof b);
        memcpy(devices[i].f, d, sizeof d);
        bufts[i].device = &devices[i];
        devices[i].reg = &reg;
        device_register(&devices[i]);
    }
}
