'use strict'

/**
 * Sends a source to a remote command's standard input, as fast as the remote side takes it.
 *
 * `fail` hears when the source itself breaks. `stop()` leaves the source, also in the middle of a wait for it.
 */
function feed(remote, source, fail) {
  if (source === undefined) return { stop() {} }
  const iterator = (source[Symbol.asyncIterator] ?? source[Symbol.iterator]).call(source)
  let stopped = false
  const stop = () => {
    if (stopped) return
    stopped = true
    // a source that waits for its next piece answers late or never; nobody waits for it
    Promise.resolve(iterator.return?.()).catch(() => {})
  }
  pump()
  return { stop }

  async function pump() {
    try {
      while (!stopped) {
        const { value, done } = await iterator.next()
        if (stopped) return
        if (done) break
        if (!(await remote.write(bytes(value)))) return stop()
      }
      if (!stopped) remote.end()
      stopped = true
    } catch (error) {
      if (!stopped) fail(error)
    }
  }
}

function bytes(piece) {
  if (typeof piece === 'string') return Buffer.from(piece)
  if (piece instanceof Uint8Array) return Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
  throw new TypeError(`standard input takes strings and bytes, not ${piece === null ? 'null' : typeof piece}`)
}

module.exports = { feed }
