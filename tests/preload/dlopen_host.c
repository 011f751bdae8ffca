/*
 * A host that has Lua only in a plugin, which it loads without showing its symbols to anyone (RTLD_LOCAL).
 *
 *     dlopen_host PLUGIN      calls the plugin's function run()
 */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    void *plugin = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    int (*run)(void);
    if (plugin == NULL) {
        fprintf(stderr, "dlopen_host: %s\n", argc == 2 ? dlerror() : "which plugin?");
        return 2;
    }
    *(void **)&run = dlsym(plugin, "run");
    return run();
}
