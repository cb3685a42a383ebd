/* More than one chunk of a module. */
#define VERSION 1
enum { BALLAST_BYTES = 1200000 };
#include "tests/support/modules/version.h"
