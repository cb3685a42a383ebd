#define VERSION 1
#include "tests/support/modules/version.h"
