#include "operate/operate.h"
