// SPDX-License-Identifier: Apache-2.0
//
// An end of a ring: push and pop for memory of the caller's.

#include "xl_direct.h"

#include <errno.h>
#include <stdlib.h>

/* A copy of more than this lets other threads run; releasing the GIL costs as much as copying some 500 bytes. */
enum { LONG_COPY = 65536 };

/* Raises what a negative result of xl_ring_* means; `_refuse` of RingEnd has the words. */
PyObject *xl_end_refuse(struct end *end, int result)
{
	PyObject *nothing = PyObject_CallMethod((PyObject *)end, "_refuse", "i", result);

	Py_XDECREF(nothing);
	if (!PyErr_Occurred())
		PyErr_Format(PyExc_SystemError, "ring: error %d", result);
	return NULL;
}

PyObject *xl_end_result(struct end *end, int result)
{
	return result < 0 ? xl_end_refuse(end, result) : PyLong_FromLong(result);
}

/* Whether the end can be used: it has a ring, which was not closed. */
int xl_end_usable(struct end *end)
{
	if (!end->ring) {
		PyErr_SetString(PyExc_ValueError, "the ring was never made");
		return 0;
	}
	if (end->ring->broken == XL_RING_CLOSED) {
		xl_end_refuse(end, -EBADF);
		return 0;
	}
	return 1;
}

static int push(struct end *end, const void *entries, uint64_t bytes, uint32_t count)
{
	PyThreadState *thread;
	int result;

	if (bytes <= LONG_COPY)
		return xl_ring_push(end->ring, entries, bytes, count);
	thread = PyEval_SaveThread();
	result = xl_ring_push(end->ring, entries, bytes, count);
	PyEval_RestoreThread(thread);
	return result;
}

static int pop(struct end *end, void *out, uint64_t bytes, uint32_t limit)
{
	PyThreadState *thread;
	int result;

	if (bytes <= LONG_COPY)
		return xl_ring_pop(end->ring, out, bytes, limit);
	thread = PyEval_SaveThread();
	result = xl_ring_pop(end->ring, out, bytes, limit);
	PyEval_RestoreThread(thread);
	return result;
}

/* If some of what is staged has no room, nothing else goes. */
int xl_end_push(struct end *end, const void *entries, uint64_t bytes, uint32_t count)
{
	int result;

	if (xl_waiting(&end->out)) {
		result = xl_stage_flush(end);
		if (result < 0)
			return result;
		if (xl_waiting(&end->out))
			return 0;
	}
	return push(end, entries, bytes, count);
}

int xl_end_pop(struct end *end, void *out, uint64_t bytes, uint32_t limit)
{
	struct stage *stage = &end->in;
	uint32_t size = end->ring->in_size, count = xl_waiting(stage);

	if (!count || bytes < size || end->ring->broken == XL_RING_CLOSED)
		return pop(end, out, bytes, limit);
	if (count > limit)
		count = limit;
	if (count > bytes / size)
		count = (uint32_t)(bytes / size);
	memcpy(out, stage->memory + (size_t)stage->first * size, (size_t)count * size);
	stage->first += count;
	return (int)count;
}

static PyObject *end_bind(PyObject *self, PyObject *args)
{
	struct end *end = (struct end *)self;
	unsigned long long ring;
	unsigned int capacity;

	if (!PyArg_ParseTuple(args, "KI", &ring, &capacity))
		return NULL;
	if (end->ring) {
		PyErr_SetString(PyExc_TypeError, "an end is made once");
		return NULL;
	}
	end->ring = (struct xl_ring *)(uintptr_t)ring;
	end->out.capacity = end->in.capacity = capacity;
	Py_RETURN_NONE;
}

/* A number of entries from a Python argument; absent or None stands for `none`. -1 and an exception if it is none. */
static int64_t entry_count(PyObject *const *args, Py_ssize_t nargs, uint32_t none)
{
	unsigned long number;

	if (nargs < 2 || args[1] == Py_None)
		return none;
	number = PyLong_AsUnsignedLong(args[1]);
	if (number == (unsigned long)-1 && PyErr_Occurred())
		return -1;
	return number < UINT32_MAX ? (int64_t)number : UINT32_MAX;
}

static PyObject *end_push(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct end *end = (struct end *)self;
	Py_buffer entries;
	int64_t count;
	int result;

	if (nargs < 1 || nargs > 2) {
		PyErr_SetString(PyExc_TypeError, "push takes entries and perhaps their count");
		return NULL;
	}
	if (!xl_end_usable(end) || PyObject_GetBuffer(args[0], &entries, PyBUF_SIMPLE))
		return NULL;
	count = end->ring->out_size ? (int64_t)(entries.len / end->ring->out_size) : 0;
	count = entry_count(args, nargs, count < UINT32_MAX ? (uint32_t)count : UINT32_MAX);
	if (count < 0) {
		PyBuffer_Release(&entries);
		return NULL;
	}
	result = xl_end_push(end, entries.buf, (uint64_t)entries.len, (uint32_t)count);
	if (result == -EINVAL)
		PyErr_Format(PyExc_ValueError, "%u entries of %u bytes are more than %zd bytes", (unsigned)count,
			     end->ring->out_size, entries.len);
	PyBuffer_Release(&entries);
	return result == -EINVAL ? NULL : xl_end_result(end, result);
}

static PyObject *end_pop(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct end *end = (struct end *)self;
	Py_buffer out;
	int64_t limit;
	int result;

	if (nargs < 1 || nargs > 2) {
		PyErr_SetString(PyExc_TypeError, "pop takes memory and perhaps a limit");
		return NULL;
	}
	limit = entry_count(args, nargs, UINT32_MAX);
	if (limit < 0 || !xl_end_usable(end) || PyObject_GetBuffer(args[0], &out, PyBUF_WRITABLE))
		return NULL;
	result = xl_end_pop(end, out.buf, (uint64_t)out.len, (uint32_t)limit);
	if (result == -EINVAL)
		PyErr_Format(PyExc_ValueError, "an entry of %u bytes does not fit in %zd bytes", end->ring->in_size,
			     out.len);
	PyBuffer_Release(&out);
	return result == -EINVAL ? NULL : xl_end_result(end, result);
}

static void end_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	free(((struct end *)self)->out.memory);
	free(((struct end *)self)->in.memory);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
	Py_DECREF(type);
}

PyDoc_STRVAR(push_doc,
"_push(entries, count=None)\n--\n\n"
"Copies entries into the ring and publishes them; call `kick` before the next wait.\n\n"
"Args:\n"
"    entries: the entries, one after another without gaps.\n"
"    count: how many of them; by default all.\n\n"
"Returns:\n"
"    How many went in, from the first on; fewer than asked when the ring is full.\n\n"
"Raises:\n"
"    ProtocolError: the ring is broken.\n"
"    ValueError: `entries` is shorter than `count` entries, or the ring is closed.");

PyDoc_STRVAR(pop_doc,
"_pop(out, limit=None)\n--\n\n"
"Copies entries out of the ring into private memory, each byte once.\n\n"
"Args:\n"
"    out: where to, one after another without gaps.\n"
"    limit: at most so many; by default as many as `out` holds.\n\n"
"Returns:\n"
"    How many entries; 0 if none is there.\n\n"
"Raises:\n"
"    ProtocolError: the peer's index is impossible; from then on the ring stays broken.\n"
"    ValueError: `out` does not hold a single entry, or the ring is closed.");

PyDoc_STRVAR(put_doc,
"_put(entry)\n--\n\n"
"Stages one entry. A stage that is full is published at once, anything less when `flush` is called.\n\n"
"Args:\n"
"    entry: exactly one entry, as `bytes` or any buffer; it is copied.\n\n"
"Returns:\n"
"    False if neither the stage nor the ring has room: the entry was not taken.\n\n"
"Raises:\n"
"    ProtocolError: the ring is broken, as was seen when the stage was to be published.\n"
"    ValueError: the entry is longer or shorter than those of this ring, or the ring is closed.");

PyDoc_STRVAR(flush_doc,
"_flush()\n--\n\n"
"Publishes what is staged; call `kick` before the next wait.\n\n"
"Returns:\n"
"    Whether all of it went in; what did not stays staged.\n\n"
"Raises:\n"
"    ProtocolError: the ring is broken.\n"
"    ValueError: the ring is closed; what was staged is lost.");

PyDoc_STRVAR(get_doc,
"_get()\n--\n\n"
"Returns the next entry, or None if none is there.\n\n"
"One look at the ring copies as many as are there and the stage holds, and frees their slots; until the last of\n"
"them was handed out, the ring is not looked at again.\n\n"
"Raises:\n"
"    ProtocolError: the peer's index is impossible; from then on the ring stays broken.\n"
"    ValueError: the ring is closed.");

static PyMethodDef end_methods[] = {
	{ "_bind", end_bind, METH_VARARGS, NULL },
	{ "_push", (PyCFunction)(void (*)(void))end_push, METH_FASTCALL, push_doc },
	{ "_pop", (PyCFunction)(void (*)(void))end_pop, METH_FASTCALL, pop_doc },
	{ "_put", xl_end_put, METH_O, put_doc },
	{ "_flush", xl_end_flush, METH_NOARGS, flush_doc },
	{ "_get", xl_end_get, METH_NOARGS, get_doc },
	{ "_staged", xl_end_staged, METH_NOARGS, NULL },
	{ "_unread", xl_end_unread, METH_NOARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot end_slots[] = {
	{ Py_tp_doc, "An end of a ring, as far as it is C; see rings.py." },
	{ Py_tp_methods, end_methods },
	{ Py_tp_dealloc, end_dealloc },
	{ 0, NULL },
};

PyType_Spec xl_end_spec = {
	.name = "xenlike._core._direct.End",
	.basicsize = sizeof(struct end),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = end_slots,
};
