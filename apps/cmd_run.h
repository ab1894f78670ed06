/* apps/cmd_run.h - `tessera run` and `tessera nodes`. Each takes what follows its name and returns the exit status. */
#ifndef TESSERA_APP_CMD_RUN_H
#define TESSERA_APP_CMD_RUN_H

int command_run(int argc, char **argv);
int command_nodes(int argc, char **argv);

#endif /* TESSERA_APP_CMD_RUN_H */
