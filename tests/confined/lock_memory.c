/* Loaded into a program, locks all memory that it has and will have. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

__attribute__((constructor)) static void lock_memory(void) {
    if (mlockall(MCL_CURRENT | MCL_FUTURE) == 0) return;
    perror("mlockall");
    exit(77);
}
