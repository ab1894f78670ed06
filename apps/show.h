/* apps/show.h - a picture in the terminal, where the command was built with libchafa. */
#ifndef TESSERA_APP_SHOW_H
#define TESSERA_APP_SHOW_H

#include "tessera/tessera.h"

int can_show(void); /* built with chafa, and stdout is a terminal */
/* Prints the picture on stdout; returns the lines it took, 0 when it could not. */
int show_image(const tsr_image *image);

#endif /* TESSERA_APP_SHOW_H */
