// SPDX-License-Identifier: Apache-2.0
//
// Single entries: put collects them in private memory and publishes when that is full or when it is told to, get
// copies all that are there, as far as its memory goes, and hands them out one by one. All of it with the GIL held:
// a stage must not change while it is copied.

#include "xl_direct.h"

#include <stdlib.h>

static int stage_ready(struct stage *stage, uint32_t size)
{
	if (stage->memory)
		return 1;
	if (!stage->capacity || !size) {
		PyErr_SetString(PyExc_TypeError, "this end of the ring has no stage");
		return 0;
	}
	stage->memory = malloc((size_t)stage->capacity * size);
	if (!stage->memory)
		PyErr_NoMemory();
	return stage->memory != NULL;
}

/* 0, or -errno; afterwards `xl_waiting` says what found no room. */
int xl_stage_flush(struct end *end)
{
	struct stage *stage = &end->out; /* always from 0 on */
	uint32_t size = end->ring->out_size;
	int gone;

	if (!stage->last)
		return 0;
	gone = xl_ring_push(end->ring, stage->memory, (uint64_t)stage->last * size, stage->last);
	if (gone < 0)
		return gone;
	stage->last -= (uint32_t)gone;
	if (gone && stage->last)
		memmove(stage->memory, stage->memory + (size_t)gone * size, (size_t)stage->last * size);
	return 0;
}

/* Copies an entry of the right size into the stage. True, False if there is no room, or NULL. */
static PyObject *take_in(struct end *end, const void *entry, Py_ssize_t length)
{
	struct stage *stage = &end->out;
	uint32_t size = end->ring->out_size;
	int result;

	if (length != (Py_ssize_t)size) {
		/* neither cut nor filled up */
		PyErr_Format(PyExc_ValueError, "an entry of this ring has %u bytes, not %zd", size, length);
		return NULL;
	}
	if (stage->last == stage->capacity) {
		result = xl_stage_flush(end);
		if (result < 0)
			return xl_end_refuse(end, result);
		if (stage->last == stage->capacity)
			Py_RETURN_FALSE;
	}
	memcpy(stage->memory + (size_t)stage->last++ * size, entry, size);
	if (stage->last == stage->capacity) {
		result = xl_stage_flush(end);
		if (result < 0)
			return xl_end_refuse(end, result);
	}
	Py_RETURN_TRUE;
}

PyObject *xl_end_put(PyObject *self, PyObject *entry)
{
	struct end *end = (struct end *)self;
	PyObject *taken;
	Py_buffer view;

	if (!xl_end_usable(end) || !stage_ready(&end->out, end->ring->out_size))
		return NULL;
	if (PyBytes_CheckExact(entry))
		return take_in(end, PyBytes_AsString(entry), PyBytes_Size(entry));
	/* before anything is looked at: getting a buffer may run Python code, which may put */
	if (PyObject_GetBuffer(entry, &view, PyBUF_SIMPLE))
		return NULL;
	taken = take_in(end, view.buf, view.len);
	PyBuffer_Release(&view);
	return taken;
}

PyObject *xl_end_flush(PyObject *self, PyObject *unused)
{
	struct end *end = (struct end *)self;
	int result;

	if (!xl_end_usable(end))
		return NULL;
	result = xl_stage_flush(end);
	if (result < 0)
		return xl_end_refuse(end, result);
	return PyBool_FromLong(!xl_waiting(&end->out));
}

PyObject *xl_end_get(PyObject *self, PyObject *unused)
{
	struct end *end = (struct end *)self;
	struct stage *stage = &end->in;
	uint32_t size;
	int result;

	if (!xl_end_usable(end))
		return NULL;
	size = end->ring->in_size;
	if (!xl_waiting(stage)) {
		if (!stage_ready(stage, size))
			return NULL;
		result = xl_ring_pop(end->ring, stage->memory, (uint64_t)stage->capacity * size, stage->capacity);
		if (result < 0)
			return xl_end_refuse(end, result);
		stage->first = 0;
		stage->last = (uint32_t)result;
		if (!result)
			Py_RETURN_NONE;
	}
	return PyBytes_FromStringAndSize((const char *)stage->memory + (size_t)stage->first++ * size, size);
}

PyObject *xl_end_staged(PyObject *self, PyObject *unused)
{
	return PyLong_FromUnsignedLong(xl_waiting(&((struct end *)self)->out));
}

PyObject *xl_end_unread(PyObject *self, PyObject *unused)
{
	return PyLong_FromUnsignedLong(xl_waiting(&((struct end *)self)->in));
}
