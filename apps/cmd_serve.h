/* apps/cmd_serve.h - `tessera serve`. Takes what follows its name and returns the exit status. */
#ifndef TESSERA_APP_CMD_SERVE_H
#define TESSERA_APP_CMD_SERVE_H

int command_serve(int argc, char **argv);

#endif /* TESSERA_APP_CMD_SERVE_H */
