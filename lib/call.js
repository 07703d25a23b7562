'use strict'

const { fromNative } = require('./error.js')
const { native } = require('./native.js')
const { running, watch } = require('./exit.js')

/**
 * Runs one native call: the caller's signal cancels it, its events reach `onEvent`, its error becomes ours.
 *
 * The caller's signal never goes to the addon, which would replace its `onabort` and overlook an early abort.
 * `atExit` says what the end of the process does to the call: `undo` cancels it, `finish` lets it end.
 */
async function call({ signal, onEvent, atExit }, start) {
  if (signal?.aborted) throw signal.reason
  const { Cancel } = native()
  const cancel = new Cancel()
  const onAbort = () => cancel.cancel()
  signal?.addEventListener('abort', onAbort, { once: true })
  const entry = { cancel, atExit }
  if (atExit) watch(entry)
  try {
    entry.promise = start(cancel, guarded(onEvent))
    return await entry.promise
  } catch (error) {
    // What was given up too late for the engine is given back before anybody hears of it.
    if (error?.code === 'cancelled') await cancel.settled()
    if (signal?.aborted && error?.code === 'cancelled') {
      // The caller's reason has no room for what could not be given back.
      if (error.details?.lease) warn(fromNative(error))
      throw signal.reason
    }
    throw fromNative(error)
  } finally {
    signal?.removeEventListener('abort', onAbort)
    running.delete(entry)
  }
}

/** A callback that cannot end the process: what it throws becomes a warning. */
function guarded(callback) {
  if (!callback) return null
  return (value) => {
    try {
      const returned = callback(value)
      if (typeof returned?.then === 'function') returned.then(undefined, warn)
    } catch (error) {
      warn(error)
    }
  }
}

function warn(error) {
  process.emitWarning(error instanceof Error ? error : new Error(`a callback threw: ${String(error)}`))
}

module.exports = { call, guarded }
