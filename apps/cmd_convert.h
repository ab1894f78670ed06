/* apps/cmd_convert.h - `tessera convert`. */
#ifndef TESSERA_APP_CMD_CONVERT_H
#define TESSERA_APP_CMD_CONVERT_H

int command_convert(int argc, char **argv);

#endif /* TESSERA_APP_CMD_CONVERT_H */
