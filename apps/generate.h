/* apps/generate.h - the commands, called by main. Each takes what follows its name and returns the exit status. */
#ifndef TESSERA_APP_GENERATE_H
#define TESSERA_APP_GENERATE_H

int command_generate(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_samplers(int argc, char **argv);
int command_schedulers(int argc, char **argv);
int command_options(int argc, char **argv);

#endif /* TESSERA_APP_GENERATE_H */
