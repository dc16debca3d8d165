// SPDX-License-Identifier: Apache-2.0
// Preloaded by node: all names lead to this host, so that the suite needs no wildcard in a DNS.
'use strict'
const dns = require('node:dns')

dns.lookup = (name, options, callback) => {
  const done = typeof options === 'function' ? options : callback
  const all = typeof options === 'object' && options.all
  process.nextTick(() => (all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)))
}
