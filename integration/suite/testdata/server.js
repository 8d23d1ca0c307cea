// server.js PORT VERSION_FILE
const fs = require('fs');
const version = fs.readFileSync(process.argv[3], 'utf8').trim();
process.on('SIGHUP', () => { console.error('heard SIGHUP'); process.exit(9); });
const server = require('http').createServer((request, response) => {
  response.end(`pid=${process.pid} version=${version}\n`);
});
server.keepAliveTimeout = 600000;
server.listen(+process.argv[2], '127.0.0.1');
