/* tests/consumer/consumer.c - a program of somebody else, built against the installed library only. */
#include <stdio.h>
#include <string.h>

#include <tessera/schedule.h>
#include <tessera/status.h>

int main(void) {
    printf("tessera %s: %s\n", tsr_version(), tsr_status_text(TSR_OK));
    return strcmp(tsr_version(), EXPECTED_VERSION) != 0;
}
