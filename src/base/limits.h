/* SPDX-License-Identifier: Apache-2.0 */
/* Limits that vivd keeps and that viv names before it asks. */
#pragma once

enum {
	POOL_SIZE_MAX = 64,  /* sandboxes that are kept ready of a template */
	RESTARTS_USUAL = 10, /* of a VM that fails again and again, in a row */
	RESTARTS_MAX = 1000000,
};
