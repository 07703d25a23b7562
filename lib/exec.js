'use strict'

const { call } = require('./call.js')
const { Collector } = require('./collector.js')
const { VastLeaseError } = require('./error.js')
const { readExec } = require('./exec-request.js')
const { feed } = require('./stdin.js')
const { RemoteCommand } = require('./remote-command.js')

/** Starts a command on a lease's session; without a handle the lease is gone. */
function exec(handle, command, options) {
  return new RemoteCommand((deliver) => run(handle, command, options, deliver))
}

async function run(handle, command, options, deliver) {
  const { request, stdin, signal, collect, onChunk } = readExec(command, options)
  if (!handle) throw new VastLeaseError('the lease has been released', { code: 'invalid_state' })
  const output = new Collector(collect)
  let unfed
  return call({ signal }, async (cancel) => {
    const remote = handle.exec(request, cancel)
    const feeding = feed(remote, stdin, (error) => {
      unfed = { error }
      cancel.cancel()
    })
    try {
      for (let piece = await remote.next(); piece !== null; piece = await remote.next()) {
        for (const chunk of output.take(piece)) await hand(chunk)
      }
      for (const chunk of output.rest()) await hand(chunk)
      return { ...(await remote.done()), ...output.result() }
    } catch (error) {
      // the source's own error, not the cancellation that followed from it
      if (unfed) throw new VastLeaseError('reading standard input failed', { code: 'invalid_argument', cause: unfed.error })
      throw error
    } finally {
      feeding.stop()
    }
  })

  async function hand(chunk) {
    onChunk(chunk)
    await deliver(chunk)
  }
}

module.exports = { exec }
