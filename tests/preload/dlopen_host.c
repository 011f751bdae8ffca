/*
 * A host that has Lua only in a plugin, which it loads without showing its symbols to anyone (RTLD_LOCAL).
 *
 *     dlopen_host PLUGIN...   calls the function run() of the first plugin, or, with TAIL set in the
 * environment, make_state() and run_on() of each; all are loaded before
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    void *plugins[8];
    int status = 0;
    if (argc < 2 || argc > 8) return fputs("dlopen_host: which plugin?\n", stderr), 2;
    for (int i = 1; i < argc; ++i) {
        plugins[i] = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        if (plugins[i] == NULL) return fprintf(stderr, "dlopen_host: %s\n", dlerror()), 2;
    }
    if (getenv("TAIL") == NULL) {
        int (*run)(void);
        *(void **)&run = dlsym(plugins[1], "run");
        return run();
    }
    for (int i = 1; i < argc; ++i) {
        void *(*make_state)(void);
        int (*run_on)(void *);
        *(void **)&make_state = dlsym(plugins[i], "make_state");
        *(void **)&run_on = dlsym(plugins[i], "run_on");
        status |= run_on(make_state());
    }
    return status;
}
