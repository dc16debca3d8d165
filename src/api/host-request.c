/* SPDX-License-Identifier: Apache-2.0 */
#include "api/host-request.h"

#include "api/access.h"

bool host_check_local(struct http_exchange *x)
{
	if (access_is_local(x))
		return true;
	reply_json(
		x, 403, NULL,
		json_pack("{s:i, s:s, s:s}", "code", 403, "message",
			  "this host is cleaned up over vivd's unix socket only: use `viv` on it",
			  "error_code", "forbidden"));
	return false;
}
