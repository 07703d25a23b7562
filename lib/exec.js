'use strict'

const { VastLeaseError } = require('./error.js')
const { readExec } = require('./exec-request.js')
const { RemoteCommand } = require('./remote-command.js')
const { stream } = require('./stream.js')

/** Starts a command on a lease's session; without a handle the lease is gone. */
function exec(handle, command, options) {
  return new RemoteCommand((deliver) => run(handle, command, options, deliver))
}

async function run(handle, command, options, deliver) {
  const { request, signal, ...streams } = readExec(command, options)
  if (!handle) throw new VastLeaseError('the lease has been released', { code: 'invalid_state', hint: 'acquire another one' })
  return stream({ ...streams, plumbing: { signal }, deliver }, (cancel) => handle.exec(request, cancel))
}

module.exports = { exec }
