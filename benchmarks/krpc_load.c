/* Asks one DHT node as fast as it answers, with a fixed number of questions in flight (BEP 5).
 *
 *   krpc_load ADDRESS PORT ping|find_node|get_peers|mixed SECONDS IN_FLIGHT [strangers [RATE]]
 *
 * `mixed`: of ten questions one ping, four find_node, four get_peers of 256 torrents, one announce_peer with the token
 * that the node gave for that torrent. With `strangers`, each question comes from another address of 127.0.0.0/8
 * (Linux). With RATE, no more than so many a second are asked.
 *
 * A question unanswered for a quarter of a second is given up. Prints one JSON object: answers a second,
 * how many were given up or refused, microseconds until the median and the 99th of 100 answers, bytes an answer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { MOST_IN_FLIGHT = 512, BATCH = 64, DATAGRAM = 2048, BUCKETS = 250000, TORRENTS = 256, MOST_TOKEN = 64 };

static uint64_t chance = 0x9e3779b97f4a7c15u;
static unsigned histogram[BUCKETS + 1]; /* by microsecond; the last holds all that took longer */

static uint64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static void fill(unsigned char *to, int size) {
    for (int i = 0; i < size; i++) {
        if (i % 8 == 0) chance ^= chance << 7, chance ^= chance >> 9;
        to[i] = chance >> (i % 8 * 8);
    }
}

static unsigned percentile(unsigned long total, double part) {
    unsigned long seen = 0;
    for (int us = 0; us <= BUCKETS; us++)
        if ((seen += histogram[us]) >= total * part) return us;
    return BUCKETS;
}

/* The torrents of `mixed`, the tokens that came for them, and which one a slot asks for. */
static unsigned char torrents[TORRENTS][20], tokens[TORRENTS][MOST_TOKEN];
static int token_sizes[TORRENTS], torrent_of[MOST_IN_FLIGHT];
static unsigned long asked;

static int mix(unsigned char *out, const unsigned char *own_id, int slot, int *transaction_at) {
    int which = asked++ % 10, torrent = chance % TORRENTS, size = 0;
    unsigned char target[20];
    char text[64];
    fill(target, 20);
    torrent_of[slot] = -1;
    if (which == 9 && !token_sizes[torrent]) which = 8;
#define ADD(bytes, count) (memcpy(out + size, bytes, count), size += (count))
#define SAY(words) ADD(words, (int)sizeof words - 1)
    SAY("d1:ad2:id20:"), ADD(own_id, 20);
    if (which == 0) SAY("e1:q4:ping");
    else if (which < 5) SAY("6:target20:"), ADD(target, 20), SAY("e1:q9:find_node");
    else {
        SAY("9:info_hash20:"), ADD(torrents[torrent], 20);
        if (which < 9) SAY("e1:q9:get_peers"), torrent_of[slot] = torrent;
        else {
            int length = snprintf(text, sizeof text, "4:porti%de5:token%d:", (int)(1024 + chance % 60000), token_sizes[torrent]);
            ADD(text, length), ADD(tokens[torrent], token_sizes[torrent]), SAY("e1:q13:announce_peer");
        }
    }
    SAY("1:t4:"), *transaction_at = size, size += 4, SAY("1:y1:qe");
    return size;
}

static void learn_token(int slot, const unsigned char *answer, int size) {
    const unsigned char *at = torrent_of[slot] < 0 ? NULL : memmem(answer, size, "5:token", 7);
    if (!at) return;
    char *end;
    long length = strtol((const char *)at + 7, &end, 10);
    if (*end != ':' || length < 1 || length > MOST_TOKEN || (unsigned char *)end + 1 + length > answer + size) return;
    memcpy(tokens[torrent_of[slot]], end + 1, length), token_sizes[torrent_of[slot]] = length;
}

int main(int argc, char **argv) {
    if (argc < 6) return fprintf(stderr, "usage: krpc_load ADDRESS PORT KIND SECONDS IN_FLIGHT [strangers [RATE]]\n"), 2;
    struct sockaddr_in node = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    int in_flight = atoi(argv[5]), fd = socket(AF_INET, SOCK_DGRAM, 0), room = 4 << 20;
    if (inet_pton(AF_INET, argv[1], &node.sin_addr) != 1 || in_flight < 1 || in_flight > MOST_IN_FLIGHT) return 2;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    int strangers = argc > 6, mixed = !strcmp(argv[3], "mixed");
    double rate = argc > 7 ? atof(argv[7]) : 0;
    for (int i = 0; i < TORRENTS; i++) fill(torrents[i], 20);
    if (!strangers && connect(fd, (struct sockaddr *)&node, sizeof node)) return perror("connect"), 1;

    /* One template; only the 20 bytes of the target and the 4 of the transaction change. */
    char text[256];
    unsigned char question[256], own_id[20];
    fill(own_id, 20);
    const char *argument = !strcmp(argv[3], "ping") ? "" : !strcmp(argv[3], "find_node") ? "6:target20:" : "9:info_hash20:";
    int size = 0, target_at = 0;
#define PUT(bytes, count) (memcpy(question + size, bytes, count), size += (count))
    PUT("d1:ad2:id20:", 12);
    PUT(own_id, 20);
    if (*argument) PUT(argument, (int)strlen(argument)), target_at = size, size += 20;
    int length = snprintf(text, sizeof text, "e1:q%zu:%s1:t4:", strlen(argv[3]), argv[3]);
    PUT(text, length);
    int transaction_at = size;
    size += 4;
    PUT("1:y1:qe", 7);

    static unsigned char out[BATCH][256], in[BATCH][DATAGRAM];
    static struct iovec out_at[BATCH], in_at[BATCH];
    static struct mmsghdr sending[BATCH], receiving[BATCH];
    static _Alignas(struct cmsghdr) unsigned char from[BATCH][CMSG_SPACE(sizeof(struct in_pktinfo))];
    static uint64_t sent_at[MOST_IN_FLIGHT];
    static uint16_t round_of[MOST_IN_FLIGHT];
    for (int i = 0; i < BATCH; i++) {
        memcpy(out[i], question, size);
        out_at[i] = (struct iovec){out[i], size};
        in_at[i] = (struct iovec){in[i], DATAGRAM};
        sending[i].msg_hdr = (struct msghdr){.msg_iov = &out_at[i], .msg_iovlen = 1};
        if (strangers) {
            sending[i].msg_hdr.msg_name = &node, sending[i].msg_hdr.msg_namelen = sizeof node;
            sending[i].msg_hdr.msg_control = from[i], sending[i].msg_hdr.msg_controllen = sizeof from[i];
            struct cmsghdr *control = CMSG_FIRSTHDR(&sending[i].msg_hdr);
            *control = (struct cmsghdr){CMSG_LEN(sizeof(struct in_pktinfo)), IPPROTO_IP, IP_PKTINFO};
        }
        receiving[i].msg_hdr = (struct msghdr){.msg_iov = &in_at[i], .msg_iovlen = 1};
    }
    unsigned long answers = 0, lost = 0, refused = 0, bytes = 0;
    unsigned long sent = 0;
    uint64_t begin = nanoseconds(), now = begin, end = begin + (uint64_t)(atof(argv[4]) * 1e9);
    while (now < end) {
        int ready = 0;
        for (int slot = 0; slot < in_flight && ready < BATCH; slot++) {
            if (rate && sent >= (now - begin) / 1e9 * rate) break;
            if (sent_at[slot] && now - sent_at[slot] < 250000000u) continue;
            lost += sent_at[slot] != 0;
            round_of[slot]++;
            sent_at[slot] = now;
            sent++;
            if (mixed) out_at[ready].iov_len = mix(out[ready], own_id, slot, &transaction_at);
            unsigned char *tid = out[ready] + transaction_at;
            tid[0] = slot >> 8, tid[1] = slot, tid[2] = round_of[slot] >> 8, tid[3] = round_of[slot];
            if (target_at && !mixed) fill(out[ready] + target_at, 20);
            if (strangers) {
                struct in_pktinfo *info = (void *)CMSG_DATA(CMSG_FIRSTHDR(&sending[ready].msg_hdr));
                unsigned char number[4];
                fill(number, 4);
                number[0] = 127, number[1] |= 128; /* the nodes of the benchmarks live in the lower half */
                memcpy(&info->ipi_spec_dst, number, 4);
            }
            ready++;
        }
        for (int done = 0; done < ready;) {
            int count = sendmmsg(fd, sending + done, ready - done, 0);
            if (count < 0) break; /* refused, or no room: given up in a quarter of a second */
            done += count;
        }
        poll(&(struct pollfd){fd, POLLIN, 0}, 1, rate ? 1 : 10);
        int count = recvmmsg(fd, receiving, BATCH, MSG_DONTWAIT, NULL);
        now = nanoseconds();
        for (int i = 0; i < count; i++) {
            unsigned char *answer = in[i], *tid = memmem(answer, receiving[i].msg_len, "1:t4:", 5);
            if (!tid || tid + 9 > answer + receiving[i].msg_len) continue; /* its own questions to us */
            int slot = tid[5] << 8 | tid[6];
            if (slot >= in_flight || round_of[slot] != (uint16_t)(tid[7] << 8 | tid[8]) || !sent_at[slot]) continue;
            uint64_t us = (now - sent_at[slot]) / 1000;
            histogram[us < BUCKETS ? us : BUCKETS]++;
            sent_at[slot] = 0;
            if (memmem(answer, receiving[i].msg_len, "1:y1:e", 6)) refused++;
            else {
                answers++, bytes += receiving[i].msg_len;
                if (mixed) learn_token(slot, answer, receiving[i].msg_len);
            }
        }
    }
    unsigned long total = answers + refused;
    printf("{\"per_s\":%.0f,\"answers\":%lu,\"refused\":%lu,\"lost\":%lu,\"median_us\":%u,\"p99_us\":%u,\"bytes\":%.0f}\n",
           answers / ((now - begin) / 1e9), answers, refused, lost, percentile(total, 0.5), percentile(total, 0.99),
           answers ? (double)bytes / answers : 0.0);
    return 0;
}
