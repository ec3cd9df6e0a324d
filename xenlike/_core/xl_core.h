/* SPDX-License-Identifier: Apache-2.0
 *
 * What the generated module includes: everything that Python may call.
 */
#ifndef XL_CORE_H
#define XL_CORE_H

#include "xl_atomic.h"
#include "xl_recorder.h"
#include "xl_ring.h"
#include "xl_stream.h"
#include "xl_spin.h"
#include "xl_api.h"

#endif
