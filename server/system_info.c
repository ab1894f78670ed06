/* server/system_info.c - see system_info.h. */
#include "system_info.h"

#include <stdio.h>
#include <string.h>

#include "tessera/status.h"

#define COMFYUI_VERSION "0.8.0" /* the one whose interface this is */

/* A line of /proc/meminfo, in bytes; 0 when it is not there. */
static json_int_t memory_line(const char *name) {
    char line[128];
    unsigned long long kilobytes = 0;
    size_t length = strlen(name);
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, length) == 0 && line[length] == ':' &&
            sscanf(line + length + 1, "%llu", &kilobytes) == 1)
            break;
    if (file) fclose(file);
    return (json_int_t)(kilobytes * 1024);
}

/* Clients read the memory of the first device; here it is the machine's own. */
json_t *srv_system_stats(void) {
    json_int_t total = memory_line("MemTotal"), available = memory_line("MemAvailable");
    json_t *device =
        json_pack("{s:s, s:s, s:i, s:I, s:I, s:I, s:I}", "name", "cpu", "type", "cpu", "index", 0, "vram_total", total,
                  "vram_free", available, "torch_vram_total", total, "torch_vram_free", available);
    json_t *system = json_pack("{s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:[]}", "os", "posix",
                               "ram_total", total, "ram_free", available, "comfyui_version", COMFYUI_VERSION,
                               "tessera_version", tsr_version(), "required_frontend_version", "none",
                               "installed_templates_version", "none", "required_templates_version", "none",
                               "python_version", "none", "pytorch_version", "none", "embedded_python", 0, "argv");
    if (device && system) return json_pack("{s:o, s:[o]}", "system", system, "devices", device);
    json_decref(device);
    json_decref(system);
    return NULL;
}
