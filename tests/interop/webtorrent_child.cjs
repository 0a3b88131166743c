// WebTorrent as a program of its own: takes one torrent, listens on loopback, says one JSON object a line.
// It ends when its stdin closes, so that it never outlives the test.
const WebTorrent = require('webtorrent')

const told = JSON.parse(process.argv[2])
const say = (event, more) => console.log(JSON.stringify({ event, ...more }))

const client = new WebTorrent({
  dht: false,
  lsd: false,
  natUpnp: false,
  natPmp: false,
  utPex: told.pex,
  utp: told.utp,
  secure: told.secure,
  torrentPort: told.port
})
client.on('error', error => { say('error', { message: error.message }); process.exit(1) })

const torrent = client.add(told.source, { path: told.path })
torrent.on('done', () => say('done'))
torrent.on('wire', (wire, address) => say('wire', { type: wire.type, address }))
const listening = setInterval(() => {
  if (client.torrentPort) { say('listening', { port: client.torrentPort }); clearInterval(listening) }
}, 20)

process.stdin.on('end', () => process.exit(0))
process.stdin.resume()
