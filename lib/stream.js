'use strict'

const { call } = require('./call.js')
const { Collector } = require('./collector.js')
const { VastLeaseError } = require('./error.js')
const { feed } = require('./stdin.js')

/**
 * Runs something with streams to its end: `start` starts it, its output goes to `onChunk` and then to `deliver`, which
 * may hold it back. Gives how it ended, with the collected output.
 */
async function stream({ plumbing, stdin, collect, onChunk, deliver }, start) {
  const output = new Collector(collect)
  let unfed
  return call(plumbing, async (cancel, events) => {
    const remote = start(cancel, events)
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
      if (unfed) throw new VastLeaseError('reading standard input failed', { code: 'invalid_argument', hint: 'see `cause`: what `stdin` iterates over threw', cause: unfed.error })
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

module.exports = { stream }
