/* SPDX-License-Identifier: Apache-2.0
 *
 * What is called for every entry or batch, as Python types and without cffi: a call through cffi converts its
 * arguments and releases the GIL, about 0.2 us more than these (2.5 GHz Xeon), and moving 2 KiB takes 0.1.
 *
 * The library has two init functions, cffi's PyInit__xl and that of xl_direct_batch.c; direct.py loads both from
 * the one file. `End` is the base of RingEnd, `Batch` that of Outgoing and Incoming, all in rings.py.
 *
 * An end has two stages, in private memory: entries that were put and not yet published, and entries that were
 * copied out of the ring and not yet taken by get. Everything that moves entries keeps their order: what is
 * staged goes first.
 */
#ifndef XL_DIRECT_H
#define XL_DIRECT_H

#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "xl_ring.h"
#include "xl_api.h"

/* Entries first..last of `memory` wait, neither beyond `capacity`. */
struct stage {
	uint8_t *memory; /* NULL until it is needed */
	uint32_t capacity, first, last;
};

struct end {
	PyObject_HEAD
	struct xl_ring *ring; /* memory of a cffi object that the Python object keeps; NULL before _bind */
	struct stage out, in;
};

struct batch {
	PyObject_HEAD
	struct end *end; /* a strong reference; NULL before _bind */
	Py_buffer data;
	uint32_t count;
};

static inline uint32_t xl_waiting(const struct stage *stage)
{
	return stage->last - stage->first;
}

/* xl_direct_end.c */
extern PyType_Spec xl_end_spec;

/* Whether the end has a ring that is not closed; an exception if not. */
int xl_end_usable(struct end *end);
/* Raises what a negative result of xl_ring_* stands for; NULL. */
PyObject *xl_end_refuse(struct end *end, int result);
/* A Python number, or as xl_end_refuse. */
PyObject *xl_end_result(struct end *end, int result);
/* xl_ring_push and xl_ring_pop, after what is staged. */
int xl_end_push(struct end *end, const void *entries, uint64_t bytes, uint32_t count);
int xl_end_pop(struct end *end, void *out, uint64_t bytes, uint32_t limit);

/* xl_direct_stage.c */
int xl_stage_flush(struct end *end);
PyObject *xl_end_put(PyObject *self, PyObject *entry);
PyObject *xl_end_flush(PyObject *self, PyObject *unused);
PyObject *xl_end_get(PyObject *self, PyObject *unused);
PyObject *xl_end_staged(PyObject *self, PyObject *unused);
PyObject *xl_end_unread(PyObject *self, PyObject *unused);

#endif
