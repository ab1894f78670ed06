/* schedule/release.c - tsr_free, in the lowest folder that hands plain memory to a caller. */
#include <stdlib.h>

#include "tessera/solver.h"

void tsr_free(void *memory) {
    free(memory);
}
