'use strict'

// The public face. Each name is assigned on its own, so that `import { acquire } from 'crabbox-vast'` sees it.

const operations = require('./lib/operations.js')

module.exports.acquire = operations.acquire
module.exports.release = operations.release
module.exports.list = operations.list
module.exports.status = operations.status
module.exports.touch = operations.touch
module.exports.doctor = operations.doctor
module.exports.searchOffers = operations.searchOffers
module.exports.Lease = operations.Lease
module.exports.VastLeaseError = require('./lib/error.js').VastLeaseError
module.exports.installSignalHandlers = require('./lib/signals.js').installSignalHandlers
module.exports.binaryPath = require('./lib/binary.js').binaryPath
module.exports.version = require('./package.json').version
