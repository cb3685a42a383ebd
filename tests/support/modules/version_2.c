#define VERSION 2
enum { BALLAST_BYTES = 1000 };
#include "tests/support/modules/version.h"
