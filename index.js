'use strict'

// The public face. Each name is assigned on its own, so that `import { acquire } from 'crabbox-vast'` sees it.

const operations = require('./lib/operations.js')
const upkeep = require('./lib/upkeep.js')
const tunnels = require('./lib/tunnel.js')

module.exports.acquire = operations.acquire
module.exports.open = operations.open
module.exports.start = operations.start
module.exports.run = require('./lib/run.js').run
module.exports.release = operations.release
module.exports.list = operations.list
module.exports.status = operations.status
module.exports.touch = operations.touch
module.exports.doctor = operations.doctor
module.exports.searchOffers = operations.searchOffers
module.exports.copy = upkeep.copy
module.exports.tunnel = tunnels.tunnel
module.exports.sshCommand = upkeep.sshCommand
module.exports.cleanup = upkeep.cleanup
module.exports.listClaims = upkeep.listClaims
module.exports.forget = upkeep.forget
module.exports.adopt = upkeep.adopt
module.exports.liveSmoke = upkeep.liveSmoke
module.exports.showConfig = upkeep.showConfig
module.exports.providers = upkeep.providers
module.exports.Lease = operations.Lease
module.exports.Tunnel = tunnels.Tunnel
module.exports.Shell = require('./lib/shell.js').Shell
module.exports.VastLeaseError = require('./lib/error.js').VastLeaseError
module.exports.installSignalHandlers = require('./lib/signals.js').installSignalHandlers
module.exports.binaryPath = require('./lib/binary.js').binaryPath
module.exports.version = require('./package.json').version
