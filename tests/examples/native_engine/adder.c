/* The backend's half of `adder`: answers requests in a thread of its own, without Python. */

#include "xl_engine.h"

struct adder_request {
	uint64_t id;
	uint32_t a, b;
};

struct adder_response {
	uint64_t id;
	uint64_t sum;
};

static int handle(void *context, const void *from, void *to)
{
	const struct adder_request *request = from; /* a private copy */
	struct adder_response *response = to;

	response->id = request->id;
	response->sum = (uint64_t)request->a + request->b;
	++*(uint64_t *)context;
	return 0;
}

int adder_engine(uintptr_t ring, int rx, int tx, int stop, void *context)
{
	return xl_engine_run((struct xl_ring *)ring, rx, tx, stop, handle, context);
}
