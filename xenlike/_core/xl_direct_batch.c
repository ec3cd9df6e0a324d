// SPDX-License-Identifier: Apache-2.0
//
// A push or pop bound to its memory, which makes a call without arguments; and the module of both types.

#include "xl_direct.h"

static PyTypeObject *end_type;

static PyObject *batch_bind(PyObject *self, PyObject *args)
{
	struct batch *batch = (struct batch *)self;
	PyObject *end, *data;
	unsigned int count;

	if (!PyArg_ParseTuple(args, "O!OI", end_type, &end, &data, &count))
		return NULL;
	if (batch->end || !((struct end *)end)->ring) {
		PyErr_SetString(PyExc_TypeError, "a batch is made once, for a ring");
		return NULL;
	}
	if (PyObject_GetBuffer(data, &batch->data, PyBUF_WRITABLE))
		return NULL;
	batch->end = (struct end *)Py_NewRef(end);
	batch->count = count;
	Py_RETURN_NONE;
}

static int batch_usable(struct batch *batch)
{
	if (batch->end)
		return xl_end_usable(batch->end);
	PyErr_SetString(PyExc_ValueError, "the batch was never made");
	return 0;
}

static PyObject *batch_push(PyObject *self, PyObject *unused)
{
	struct batch *batch = (struct batch *)self;

	if (!batch_usable(batch))
		return NULL;
	return xl_end_result(
		batch->end, xl_end_push(batch->end, batch->data.buf, (uint64_t)batch->data.len, batch->count));
}

static PyObject *batch_pop(PyObject *self, PyObject *unused)
{
	struct batch *batch = (struct batch *)self;

	if (!batch_usable(batch))
		return NULL;
	return xl_end_result(
		batch->end, xl_end_pop(batch->end, batch->data.buf, (uint64_t)batch->data.len, batch->count));
}

static int batch_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(((struct batch *)self)->end);
	Py_VISIT(((struct batch *)self)->data.obj);
	return 0;
}

static int batch_clear(PyObject *self)
{
	struct batch *batch = (struct batch *)self;

	if (batch->end) {
		PyBuffer_Release(&batch->data);
		Py_CLEAR(batch->end);
	}
	return 0;
}

static void batch_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	batch_clear(self);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
	Py_DECREF(type);
}

PyDoc_STRVAR(push_doc,
"_push()\n--\n\n"
"Pushes all entries of `data`, as `RingEnd.push` does; returns how many went in.");

PyDoc_STRVAR(pop_doc,
"_pop()\n--\n\n"
"Pops into `data` from its beginning, as `RingEnd.pop` does; returns how many came.");

static PyMethodDef batch_methods[] = {
	{ "_bind", batch_bind, METH_VARARGS, NULL },
	{ "_push", batch_push, METH_NOARGS, push_doc },
	{ "_pop", batch_pop, METH_NOARGS, pop_doc },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot batch_slots[] = {
	{ Py_tp_doc, "Memory bound to an end of a ring; see rings.py." },
	{ Py_tp_methods, batch_methods },
	{ Py_tp_traverse, batch_traverse },
	{ Py_tp_clear, batch_clear },
	{ Py_tp_dealloc, batch_dealloc },
	{ 0, NULL },
};

static PyType_Spec batch_spec = {
	.name = "xenlike._core._direct.Batch",
	.basicsize = sizeof(struct batch),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = batch_slots,
};

/* The module. */

static int module_exec(PyObject *module)
{
	PyObject *end = PyType_FromSpec(&xl_end_spec), *batch = PyType_FromSpec(&batch_spec);
	int failed = !end || !batch || PyModule_AddObjectRef(module, "End", end) ||
		     PyModule_AddObjectRef(module, "Batch", batch);

	Py_XDECREF(batch);
	if (failed) {
		Py_XDECREF(end);
		return -1;
	}
	end_type = (PyTypeObject *)end; /* kept, for batch_bind */
	return 0;
}

static PyModuleDef_Slot module_slots[] = {
	{ Py_mod_exec, (void *)module_exec },
	{ 0, NULL },
};

static struct PyModuleDef direct_module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "xenlike._core._direct",
	.m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__direct(void)
{
	return PyModuleDef_Init(&direct_module);
}
